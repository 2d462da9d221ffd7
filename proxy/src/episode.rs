//! Of what goes wrong again and again, what is news.

use std::time::Duration;

pub(crate) use keelson_port::LogThrottle;
use tokio::time::Instant;

use crate::endpoint::Standing;

const MINUTE: Duration = Duration::from_secs(60);

/// What was last told of a member, and what in the last minute.
pub(crate) struct Told {
    latest: Standing,
    lately: Vec<(Standing, Instant)>,
}

impl Told {
    pub(crate) fn new(standing: Standing) -> Told {
        Told {
            latest: standing,
            lately: vec![],
        }
    }

    /// Whether it is to be told that a member stands so: a change, and not the same one as just now.
    pub(crate) fn is_news(&mut self, standing: Standing) -> bool {
        self.lately.retain(|(_, at)| at.elapsed() < MINUTE);
        let stale = self.lately.iter().any(|(told, _)| *told == standing);
        let news = standing != self.latest && !stale;
        if news {
            self.latest = standing;
            self.lately.push((standing, Instant::now()));
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
        let mut told = Told::new(Standing::Well);
        assert!(!told.is_news(Standing::Well));
        assert!(told.is_news(Standing::Out));
        assert!(!told.is_news(Standing::Out));
        assert!(told.is_news(Standing::Well));
        for _ in 0..3 {
            assert!(!told.is_news(Standing::Out));
            assert!(!told.is_news(Standing::Well));
        }
        assert!(!told.is_news(Standing::Out));
        told.lately.iter_mut().for_each(|(_, at)| pass(at));
        assert!(told.is_news(Standing::Out));
        assert!(told.is_news(Standing::Gone));
    }
}
