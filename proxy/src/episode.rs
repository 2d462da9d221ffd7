//! What goes wrong for long, or again and again, and is not to fill the log: it is told when it
//! begins, once a minute with how long it has lasted, and when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::Standing;

const MINUTE: Duration = Duration::from_secs(60);

/// Something that is wrong, or was.
#[derive(Default)]
pub(crate) struct Episode {
    began: Option<Instant>,
    /// When it was last told, of this time or one before.
    told: Option<Instant>,
    /// This time was told.
    known: bool,
}

impl Episode {
    /// It is wrong now. Returns for how long it has been, when that is to be told.
    pub(crate) fn goes_on(&mut self) -> Option<Duration> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if self.told.is_some_and(|told| told.elapsed() < MINUTE) {
            return None;
        }
        self.told = Some(Instant::now());
        self.known = true;
        Some(began.elapsed())
    }

    /// It is well now. Returns for how long it was not, when that is to be told.
    pub(crate) fn is_over(&mut self) -> Option<Duration> {
        let began = self.began.take()?;
        std::mem::take(&mut self.known).then(|| began.elapsed())
    }
}

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
    fn it_is_told_at_its_beginning_each_minute_and_at_its_end() {
        let mut episode = Episode::default();
        assert_eq!(episode.is_over(), None);
        assert!(episode.goes_on().is_some());
        assert_eq!(episode.goes_on(), None);
        pass(episode.told.as_mut().unwrap());
        pass(episode.began.as_mut().unwrap());
        assert!(MINUTE <= episode.goes_on().unwrap());
        assert_eq!(episode.goes_on(), None);
        assert!(MINUTE <= episode.is_over().unwrap());
        assert_eq!(episode.is_over(), None);
    }

    #[test]
    fn one_that_comes_and_goes_is_told_once_a_minute() {
        let mut episode = Episode::default();
        assert!(episode.goes_on().is_some());
        assert!(episode.is_over().is_some());
        for _ in 0..3 {
            assert_eq!(episode.goes_on(), None);
            assert_eq!(episode.is_over(), None);
        }
        pass(episode.told.as_mut().unwrap());
        assert!(episode.goes_on().is_some());
        assert!(episode.is_over().is_some());
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
