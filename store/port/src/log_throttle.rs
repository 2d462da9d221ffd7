//! Throttles the log lines of a failure that lasts or repeats: one when it begins, one in each
//! interval with its duration, and one when it ends.

use std::time::Duration;

use tokio::time::Instant;

/// The state of one failure.
#[derive(Debug)]
pub struct LogThrottle {
    every: Duration,
    began: Option<Instant>,
    /// When it was last reported, in this period of failure or an earlier one.
    told: Option<Instant>,
    /// The present period of failure was reported.
    known: bool,
}

impl Default for LogThrottle {
    /// Reports once a minute.
    fn default() -> LogThrottle {
        LogThrottle::every(Duration::from_secs(60))
    }
}

impl LogThrottle {
    /// Reports at most once in `every`.
    pub fn every(every: Duration) -> LogThrottle {
        LogThrottle {
            every,
            began: None,
            told: None,
            known: false,
        }
    }

    /// Records a failure. Returns how long it has lasted, if that is to be logged.
    pub fn failing(&mut self) -> Option<Duration> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if self.told.is_some_and(|told| told.elapsed() < self.every) {
            return None;
        }
        self.told = Some(Instant::now());
        self.known = true;
        Some(began.elapsed())
    }

    /// Records a success. Returns how long the failure lasted, if its end is to be logged.
    pub fn recovered(&mut self) -> Option<Duration> {
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
        let mut throttle = LogThrottle::default();
        assert_eq!(throttle.recovered(), None);
        assert!(throttle.failing().is_some());
        assert_eq!(throttle.failing(), None);
        tokio::time::advance(MINUTE).await;
        assert!(MINUTE <= throttle.failing().unwrap());
        assert_eq!(throttle.failing(), None);
        assert!(MINUTE <= throttle.recovered().unwrap());
        assert_eq!(throttle.recovered(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_and_goes_is_reported_once_in_its_time() {
        let mut throttle = LogThrottle::every(MINUTE / 2);
        assert!(throttle.failing().is_some());
        assert!(throttle.recovered().is_some());
        for _ in 0..3 {
            assert_eq!(throttle.failing(), None);
            assert_eq!(throttle.recovered(), None);
        }
        tokio::time::advance(MINUTE / 2).await;
        assert!(throttle.failing().is_some());
        assert!(throttle.recovered().is_some());
    }
}
