//! Limits how often the same change of a state is logged.

use std::time::Duration;

use tokio::time::Instant;

/// A state is logged at most once in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// The state that was logged last, and those that were logged lately.
pub(crate) struct ChangeThrottle<S> {
    latest: S,
    lately: Vec<(S, Instant)>,
}

impl<S: Copy + PartialEq> ChangeThrottle<S> {
    /// The first state is not logged.
    pub(crate) fn new(state: S) -> ChangeThrottle<S> {
        ChangeThrottle {
            latest: state,
            lately: vec![],
        }
    }

    /// Whether to log this state: it has changed, and was not logged lately.
    pub(crate) fn admits(&mut self, state: S) -> bool {
        self.lately.retain(|(_, at)| at.elapsed() < INTERVAL);
        let repeated = self.lately.iter().any(|(logged, _)| *logged == state);
        let admitted = state != self.latest && !repeated;
        if admitted {
            self.latest = state;
            self.lately.push((state, Instant::now()));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_state_that_flaps_is_logged_once_a_minute_and_how_it_ends() {
        let mut throttle = ChangeThrottle::new("up");
        assert!(!throttle.admits("up"));
        assert!(throttle.admits("down"));
        assert!(!throttle.admits("down"));
        assert!(throttle.admits("up"));
        for _ in 0..3 {
            assert!(!throttle.admits("down"));
            assert!(!throttle.admits("up"));
        }
        assert!(!throttle.admits("down"));
        tokio::time::advance(INTERVAL).await;
        assert!(throttle.admits("down"));
        assert!(throttle.admits("removed"));
    }
}
