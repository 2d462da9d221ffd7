//! The time in which no member can be asked, and whether a request is held meanwhile.
//!
//! Clients of etcd 2's age give up at once on 503, so a request is held while a member may be reached
//! in time: one that was there before restarts, or is part of an election, however long the outage has
//! lasted; or is about to start, as those that a discovery service has registered. A proxy that expects
//! none, and has never found a member, in this life or an earlier one, answers as etcd's does. For a moment after its start it holds requests all the same: members and proxies of a cluster
//! are started together.

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
    /// A member was connected to, in this life or an earlier one, or is expected.
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

    /// There were members in an earlier life of the proxy, or they are registered and about to start.
    pub(crate) fn expect_members(&self) {
        self.0.lock().reached = true;
    }

    /// Whether a request would be held in vain at `now`.
    pub(crate) fn is_hopeless(&self, now: Instant) -> bool {
        let state = self.0.lock();
        let over = |began: Instant| began + START_GRACE <= now;
        !state.reached && state.began.is_some_and(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn requests_are_held_however_long_the_members_have_been_away() {
        let (outage, lost) = (Outage::default(), Instant::now());
        outage.note(true, true, lost);
        assert!(!outage.is_hopeless(lost));
        outage.note(false, true, lost);
        assert!(!outage.is_hopeless(lost));
        assert!(!outage.is_hopeless(lost + DAY));
        // Those that replace the reached ones may not have been reached themselves.
        outage.note(false, false, lost + DAY);
        assert!(!outage.is_hopeless(lost + 2 * DAY));
    }

    #[test]
    fn without_a_member_ever_requests_are_held_for_a_moment_after_the_start() {
        let (outage, start) = (Outage::default(), Instant::now());
        let hopeless = |after| outage.is_hopeless(start + after);
        assert!(!hopeless(DAY));
        outage.note(false, false, start);
        assert!(!hopeless(Duration::ZERO));
        assert!(!hopeless(START_GRACE - Duration::from_millis(1)));
        assert!(hopeless(START_GRACE));
        outage.expect_members();
        assert!(!hopeless(DAY));
    }
}
