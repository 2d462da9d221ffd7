//! What goes wrong for long, or again and again, and is not to fill the log: it is reported when it
//! begins, at intervals with how long it has lasted, and when it is over.

use std::time::Duration;

use tokio::time::Instant;

/// Something that is wrong, or was.
#[derive(Debug)]
pub struct Episode {
    every: Duration,
    began: Option<Instant>,
    /// When it was last reported, of this time or one before.
    told: Option<Instant>,
    /// This time was reported.
    known: bool,
}

impl Default for Episode {
    /// Reported once a minute.
    fn default() -> Episode {
        Episode::every(Duration::from_secs(60))
    }
}

impl Episode {
    /// Reported at most once in that time.
    pub fn every(every: Duration) -> Episode {
        Episode {
            every,
            began: None,
            told: None,
            known: false,
        }
    }

    /// It is wrong now. Returns for how long it has been, when that is to be reported.
    pub fn goes_on(&mut self) -> Option<Duration> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if self.told.is_some_and(|told| told.elapsed() < self.every) {
            return None;
        }
        self.told = Some(Instant::now());
        self.known = true;
        Some(began.elapsed())
    }

    /// It is well now. Returns for how long it was not, when that is to be reported.
    pub fn is_over(&mut self) -> Option<Duration> {
        let began = self.began.take()?;
        std::mem::take(&mut self.known).then(|| began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_is_reported_at_its_beginning_each_minute_and_at_its_end() {
        let mut episode = Episode::default();
        assert_eq!(episode.is_over(), None);
        assert!(episode.goes_on().is_some());
        assert_eq!(episode.goes_on(), None);
        tokio::time::advance(MINUTE).await;
        assert!(MINUTE <= episode.goes_on().unwrap());
        assert_eq!(episode.goes_on(), None);
        assert!(MINUTE <= episode.is_over().unwrap());
        assert_eq!(episode.is_over(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_and_goes_is_reported_once_in_its_time() {
        let mut episode = Episode::every(MINUTE / 2);
        assert!(episode.goes_on().is_some());
        assert!(episode.is_over().is_some());
        for _ in 0..3 {
            assert_eq!(episode.goes_on(), None);
            assert_eq!(episode.is_over(), None);
        }
        tokio::time::advance(MINUTE / 2).await;
        assert!(episode.goes_on().is_some());
        assert!(episode.is_over().is_some());
    }
}
