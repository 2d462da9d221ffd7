//! What clients of this proxy have been told, so that reads do not tell them less.
//!
//! A write goes to the leader and is answered once the leader has applied it; the member that is nearest
//! for reads applies it a moment later, and when the leader dies in between, much later. Whoever writes
//! through `localhost` and then reads there must find what it wrote, and what it has read before, as behind
//! etcd's proxy, where one member answers all. The v2 API makes that simple: every answer carries the
//! member's index. (v3's reads take a quorum unless they ask not to.) Answers about members and accounts
//! do not: whoever has answered the last change of them is asked for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::policy::endpoint::{Endpoint, Health};

/// While clients write, the nearest member is behind again and again. Once it was, reads go to the
/// leader at once for so long.
const MOMENT: Duration = Duration::from_millis(100);

/// The newest index that a client of this proxy was told.
pub(crate) struct HighWaterMark {
    index: AtomicU64,
    /// Members may take so long, all reads together, to come as far as clients were told.
    patience: Duration,
    /// Somebody looks for a member that has come as far.
    sought: AtomicBool,
    lag: Mutex<Lag>,
    /// There was a change of members or accounts, perhaps long ago.
    changed: AtomicBool,
    /// Who answered the last one, and when.
    changer: Mutex<Option<(Arc<Endpoint>, Instant)>>,
}

#[derive(Default)]
struct Lag {
    /// When a member was last behind.
    last: Option<Instant>,
    /// What no member has come up to, and since when.
    missing: Option<(u64, Instant)>,
}

impl HighWaterMark {
    pub(crate) fn new(patience: Duration) -> HighWaterMark {
        HighWaterMark {
            index: AtomicU64::new(0),
            patience,
            sought: AtomicBool::new(false),
            lag: Mutex::default(),
            changed: AtomicBool::new(false),
            changer: Mutex::default(),
        }
    }

    /// What clients have been told by now.
    pub(crate) fn current(&self) -> u64 {
        self.index.load(Ordering::Relaxed)
    }

    /// A client has been told so much.
    pub(crate) fn observe(&self, index: Option<u64>) {
        let index = index.unwrap_or(0);
        if self.current() < index {
            self.index.fetch_max(index, Ordering::Relaxed);
        }
    }

    /// Whether a read has not been told all that was known when it began, being answered from this
    /// index, and until when a better answer may be looked for. The time is the same for all reads:
    /// clients that give up sooner must not each begin it anew.
    pub(crate) fn stale_until(&self, known: u64, index: Option<u64>) -> Option<Instant> {
        let index = index?;
        let newest = self.current();
        if newest <= index {
            if self.sought.load(Ordering::Relaxed) {
                self.sought.store(false, Ordering::Relaxed);
                self.lag.lock().missing = None;
            }
            return None;
        }
        if known <= index {
            return None;
        }
        let now = Instant::now();
        let mut lag = self.lag.lock();
        lag.last = Some(now);
        let since = match lag.missing {
            Some((missing, since)) if missing == newest => since,
            _ => now,
        };
        lag.missing = Some((newest, since));
        self.sought.store(true, Ordering::Relaxed);
        Some(since + self.patience)
    }

    /// No better answer than one from this index was found. Once the time is over, the cluster is one that
    /// was set up anew, or that has lost its majority: what its members say is true now.
    pub(crate) fn give_up(&self, index: Option<u64>) {
        let mut lag = self.lag.lock();
        if let (Some(index), Some((newest, since))) = (index, lag.missing)
            && self.patience <= since.elapsed()
        {
            lag.missing = None;
            // Unless somebody was told more meanwhile.
            let order = Ordering::Relaxed;
            let _ = self.index.compare_exchange(newest, index, order, order);
        }
    }

    /// This member has answered a change of members or accounts.
    pub(crate) fn observe_change(&self, endpoint: &Arc<Endpoint>) {
        *self.changer.lock() = Some((Arc::clone(endpoint), Instant::now()));
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Whether there was such a change so lately that not all members may know it.
    pub(crate) fn changed_recently(&self) -> bool {
        if !self.changed.load(Ordering::Relaxed) {
            return false;
        }
        let mut changer = self.changer.lock();
        if let Some((_, since)) = &*changer
            && since.elapsed() < self.patience
        {
            return true;
        }
        *changer = None;
        self.changed.store(false, Ordering::Relaxed);
        false
    }

    /// Who has answered it, while it is well.
    pub(crate) fn recent_changer(&self) -> Option<Arc<Endpoint>> {
        let changer = self.changer.lock();
        let (endpoint, _) = changer.as_ref()?;
        (endpoint.health() == Health::Healthy).then(|| Arc::clone(endpoint))
    }

    /// Whether a member was behind a moment ago.
    pub(crate) fn lagged_recently(&self) -> bool {
        let last = self.lag.lock().last;
        last.is_some_and(|last| last.elapsed() < MOMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(2500);

    fn stale_until(mark: &HighWaterMark, index: u64) -> Option<Instant> {
        mark.stale_until(mark.current(), Some(index))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_holds_until_members_have_had_their_time() {
        let mark = HighWaterMark::new(PATIENCE);
        assert_eq!(stale_until(&mark, 0), None);
        mark.observe(Some(7));
        mark.observe(Some(5));
        mark.observe(None);
        let until = Instant::now() + PATIENCE;
        assert_eq!(stale_until(&mark, 6), Some(until));
        assert_eq!(mark.stale_until(7, None), None);
        // One clock for all.
        tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
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
        let mark = HighWaterMark::new(PATIENCE);
        mark.observe(Some(7));
        assert!(stale_until(&mark, 6).is_some());
        tokio::time::advance(PATIENCE).await;
        assert_eq!(stale_until(&mark, 7), None);
        let until = Instant::now() + PATIENCE;
        assert_eq!(stale_until(&mark, 6), Some(until));
        tokio::time::advance(PATIENCE).await;
        mark.observe(Some(8));
        let until = Instant::now() + PATIENCE;
        assert_eq!(stale_until(&mark, 6), Some(until));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_need_not_know_what_was_told_after_it_began() {
        let mark = HighWaterMark::new(PATIENCE);
        mark.observe(Some(7));
        let known = mark.current();
        mark.observe(Some(8));
        assert_eq!(mark.stale_until(known, Some(7)), None);
        assert!(mark.stale_until(known, Some(6)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_was_behind_is_left_alone_for_a_moment() {
        let mark = HighWaterMark::new(PATIENCE);
        mark.observe(Some(7));
        assert!(!mark.lagged_recently());
        assert!(stale_until(&mark, 6).is_some());
        assert!(mark.lagged_recently());
        tokio::time::advance(MOMENT).await;
        assert!(!mark.lagged_recently());
    }
}
