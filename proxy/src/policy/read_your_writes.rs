//! Read-your-writes: a client of this proxy never reads a state older than one that it has seen.
//!
//! A write goes to the leader and is answered once the leader has applied it. The member that is
//! nearest for reads applies it a moment later, or much later when the leader dies in between. A
//! client that writes through `localhost` and then reads must find what it wrote, and what it has
//! read before, as behind etcd's proxy, where one member answers everything. The proxy therefore
//! keeps the highest index that it has sent to any client. In the v2 API every answer carries the
//! member's index; v3's reads take a quorum unless they are serializable. Answers about members and
//! accounts carry no index: for a while they come from the member that answered the latest change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::policy::endpoint::{Endpoint, Health};
use crate::policy::mark::Mark;

/// While clients write, the nearest member keeps lagging. After a stale answer, reads prefer the
/// leader for this time.
const LAG_MEMORY: Duration = Duration::from_millis(100);

/// The highest index that this proxy has sent to a client.
pub(crate) struct HighWaterMark {
    index: Mark,
    catch_up: Duration,
    /// `changer` is set.
    changed: AtomicBool,
    /// The member that answered the latest change of members or accounts, and when.
    changer: Mutex<Option<(Arc<Endpoint>, Instant)>>,
}

impl HighWaterMark {
    /// `catch_up`: the time that members get to reach the mark, for all reads together.
    pub(crate) fn new(catch_up: Duration) -> HighWaterMark {
        HighWaterMark {
            index: Mark::new(catch_up),
            catch_up,
            changed: AtomicBool::new(false),
            changer: Mutex::default(),
        }
    }

    /// The mark.
    pub(crate) fn current(&self) -> u64 {
        self.index.current()
    }

    /// Raises the mark to the index of an answer.
    pub(crate) fn observe(&self, index: Option<u64>) {
        self.index.observe(index);
    }

    /// Until when a newer answer may be sought, if an answer from `index` is stale: `known` is the
    /// mark when the read began.
    pub(crate) fn stale_until(&self, known: u64, index: Option<u64>) -> Option<Instant> {
        self.index.stale_until(known, index)
    }

    /// No answer newer than this index was found. After the deadline the mark falls to it: the
    /// cluster was set up anew, or has lost its majority, and its members' state is the only one.
    pub(crate) fn give_up(&self, index: Option<u64>) {
        self.index.give_up(index);
    }

    /// A change of members or accounts was answered by this member.
    pub(crate) fn observe_change(&self, endpoint: &Arc<Endpoint>) {
        *self.changer.lock() = Some((Arc::clone(endpoint), Instant::now()));
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Whether such a change is so recent that some members may not have applied it.
    pub(crate) fn changed_recently(&self) -> bool {
        if !self.changed.load(Ordering::Relaxed) {
            return false;
        }
        let mut changer = self.changer.lock();
        if let Some((_, since)) = &*changer
            && since.elapsed() < self.catch_up
        {
            return true;
        }
        *changer = None;
        self.changed.store(false, Ordering::Relaxed);
        false
    }

    /// The member that answered it, while it is healthy.
    pub(crate) fn recent_changer(&self) -> Option<Arc<Endpoint>> {
        let changer = self.changer.lock();
        let (endpoint, _) = changer.as_ref()?;
        (endpoint.health() == Health::Healthy).then(|| Arc::clone(endpoint))
    }

    /// Whether a member's answer was stale a moment ago.
    pub(crate) fn lagged_recently(&self) -> bool {
        let last = self.index.last_stale();
        last.is_some_and(|last| last.elapsed() < LAG_MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATCH_UP: Duration = Duration::from_millis(2500);

    fn stale_until(mark: &HighWaterMark, index: u64) -> Option<Instant> {
        mark.stale_until(mark.current(), Some(index))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_holds_until_members_have_had_their_time() {
        let mark = HighWaterMark::new(CATCH_UP);
        assert_eq!(stale_until(&mark, 0), None);
        mark.observe(Some(7));
        mark.observe(Some(5));
        mark.observe(None);
        let until = Instant::now() + CATCH_UP;
        assert_eq!(stale_until(&mark, 6), Some(until));
        assert_eq!(mark.stale_until(7, None), None);
        // All reads share one deadline.
        tokio::time::advance(CATCH_UP - Duration::from_millis(1)).await;
        mark.give_up(Some(6));
        assert_eq!(stale_until(&mark, 5), Some(until));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(stale_until(&mark, 6), Some(until));
        mark.give_up(Some(6));
        assert_eq!(stale_until(&mark, 6), None);
        assert!(stale_until(&mark, 5).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_begins_anew_once_a_member_was_found_or_more_was_told() {
        let mark = HighWaterMark::new(CATCH_UP);
        mark.observe(Some(7));
        assert!(stale_until(&mark, 6).is_some());
        tokio::time::advance(CATCH_UP).await;
        assert_eq!(stale_until(&mark, 7), None);
        let until = Instant::now() + CATCH_UP;
        assert_eq!(stale_until(&mark, 6), Some(until));
        tokio::time::advance(CATCH_UP).await;
        mark.observe(Some(8));
        let until = Instant::now() + CATCH_UP;
        assert_eq!(stale_until(&mark, 6), Some(until));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_need_not_know_what_was_told_after_it_began() {
        let mark = HighWaterMark::new(CATCH_UP);
        mark.observe(Some(7));
        let known = mark.current();
        mark.observe(Some(8));
        assert_eq!(mark.stale_until(known, Some(7)), None);
        assert!(mark.stale_until(known, Some(6)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_was_behind_is_left_alone_for_a_moment() {
        let mark = HighWaterMark::new(CATCH_UP);
        mark.observe(Some(7));
        assert!(!mark.lagged_recently());
        assert!(stale_until(&mark, 6).is_some());
        assert!(mark.lagged_recently());
        tokio::time::advance(LAG_MEMORY).await;
        assert!(!mark.lagged_recently());
    }
}
