//! The time in which no member can be asked, and whether a request is held meanwhile.
//!
//! Clients of etcd 2's age give up at once on 503, so a request is held while a member may come back
//! in time: one that was there a moment ago restarts, or is part of an election. A proxy that has
//! found no member at all, or has had none for longer than requests are held, answers as etcd's does.
//! For a moment after its start it holds requests all the same: members and proxies of a cluster are
//! started together.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// For so long a proxy that has not reached any member yet holds requests.
const START_GRACE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Outage(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None` while a member can be asked, or while that is not known yet.
    began: Option<Instant>,
    /// A member was connected to in this life.
    reached: bool,
}

impl Outage {
    /// `any` member can be asked at `now`; one was `reached` at some time.
    pub(crate) fn note(&self, any: bool, reached: bool, now: Instant) {
        let mut state = self.0.lock();
        state.reached |= reached;
        match any {
            true => state.began = None,
            false => drop(state.began.get_or_insert(now)),
        }
    }

    /// Whether, at `now`, a request that came at `since` would be held in vain.
    pub(crate) fn is_hopeless(&self, since: Instant, now: Instant, held_for: Duration) -> bool {
        let state = self.0.lock();
        state.began.is_some_and(|began| match state.reached {
            true => began + held_for <= since,
            false => began + START_GRACE <= now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD_FOR: Duration = Duration::from_secs(7);

    #[test]
    fn requests_are_held_from_the_loss_of_the_last_member_and_not_for_ever() {
        let (outage, lost) = (Outage::default(), Instant::now());
        let hopeless = |after| {
            let since = lost + Duration::from_secs(after);
            outage.is_hopeless(since, since, HELD_FOR)
        };
        outage.note(true, true, lost);
        assert!(!hopeless(0));
        outage.note(false, true, lost);
        assert!(!hopeless(0));
        assert!(!hopeless(6));
        assert!(hopeless(7));
        // What fails again and again is one outage.
        outage.note(false, true, lost + Duration::from_secs(6));
        assert!(hopeless(7));
        outage.note(true, true, lost + Duration::from_secs(8));
        assert!(!hopeless(9));
        outage.note(false, false, lost + Duration::from_secs(9));
        assert!(!hopeless(10));
    }

    #[test]
    fn without_a_member_ever_requests_are_held_for_a_moment_after_the_start() {
        let (outage, start) = (Outage::default(), Instant::now());
        let hopeless = |after| outage.is_hopeless(start, start + after, HELD_FOR);
        assert!(!hopeless(HELD_FOR));
        outage.note(false, false, start);
        assert!(!hopeless(Duration::ZERO));
        assert!(!hopeless(START_GRACE - Duration::from_millis(1)));
        assert!(hopeless(START_GRACE));
    }
}
