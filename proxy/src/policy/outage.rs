//! Whether a request is held while no member is usable.
//!
//! Clients of etcd 2's age give up at once on 503. So a request is held as long as a member may
//! become usable in time: one that was reached before and restarts or takes part in an election,
//! however long the outage has lasted, or one that a discovery service has registered. A proxy that
//! expects no member, and has never reached one, answers 503 as etcd's does. It holds requests for
//! a short time after its start all the same, since members and proxies of a cluster are started
//! together.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time for which a proxy that has not reached any member holds requests.
const START_GRACE: Duration = Duration::from_secs(1);

/// The current outage, if there is one.
#[derive(Default)]
pub(crate) struct Outage(Mutex<OutageState>);

/// The start of the outage, and whether members may return.
#[derive(Default)]
struct OutageState {
    /// `None` while a member is usable, and before the first health check.
    began: Option<Instant>,
    /// A member was reached, in this run or an earlier one, or is expected.
    reached: bool,
}

impl Outage {
    /// Whether any member is `usable` at `now`, and whether one was `reached` ever.
    pub(crate) fn note(&self, usable: bool, reached: bool, now: Instant) {
        let mut state = self.0.lock();
        state.reached |= reached;
        match usable {
            true => state.began = None,
            false => drop(state.began.get_or_insert(now)),
        }
    }

    /// There were members in an earlier run of the proxy, or they are registered and about to
    /// start.
    pub(crate) fn expect_members(&self) {
        self.0.lock().reached = true;
    }

    /// Whether holding a request would be in vain at `now`.
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
        // The members that replace the reached ones may not have been reached themselves.
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
