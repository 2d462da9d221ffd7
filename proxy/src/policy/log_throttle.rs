//! Of what goes wrong again and again, what is news.

use std::time::Duration;

use tokio::time::Instant;

use crate::policy::endpoint::Health;

const MINUTE: Duration = Duration::from_secs(60);

/// What was last told of a member, and what in the last minute.
pub(crate) struct ChangeThrottle {
    latest: Health,
    lately: Vec<(Health, Instant)>,
}

impl ChangeThrottle {
    pub(crate) fn new(health: Health) -> ChangeThrottle {
        ChangeThrottle {
            latest: health,
            lately: vec![],
        }
    }

    /// Whether it is to be told that a member stands so: a change, and not the same one as just now.
    pub(crate) fn admits(&mut self, health: Health) -> bool {
        self.lately.retain(|(_, at)| at.elapsed() < MINUTE);
        let stale = self.lately.iter().any(|(told, _)| *told == health);
        let news = health != self.latest && !stale;
        if news {
            self.latest = health;
            self.lately.push((health, Instant::now()));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if a minute went by.
    fn pass(at: &mut Instant) {
        *at = at.checked_sub(MINUTE).unwrap();
    }

    #[test]
    fn a_member_that_flaps_is_told_of_once_a_minute_and_how_it_ends() {
        let mut told = ChangeThrottle::new(Health::Healthy);
        assert!(!told.admits(Health::Healthy));
        assert!(told.admits(Health::Down));
        assert!(!told.admits(Health::Down));
        assert!(told.admits(Health::Healthy));
        for _ in 0..3 {
            assert!(!told.admits(Health::Down));
            assert!(!told.admits(Health::Healthy));
        }
        assert!(!told.admits(Health::Down));
        told.lately.iter_mut().for_each(|(_, at)| pass(at));
        assert!(told.admits(Health::Down));
        assert!(told.admits(Health::Removed));
    }
}
