//! Waits that double: 2, 4, 8 ... seconds, up to a cap.

use std::time::Duration;

/// How patient to be with a service that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The first wait; each further one is twice as long.
    pub first: Duration,
    /// No wait is longer.
    pub cap: Duration,
    /// Failures in a row before giving up. etcd's own bound is as good as none.
    pub attempts_max: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first: Duration::from_secs(2),
            cap: Duration::from_secs(30),
            attempts_max: u32::MAX,
        }
    }
}

/// Failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    patience: Patience,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(patience: Patience) -> Backoff {
        let failures = 0;
        Backoff { patience, failures }
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure; the number of failures when that was one too many.
    pub(crate) fn next(&mut self) -> Result<Duration, u32> {
        self.failures = self.failures.saturating_add(1);
        if self.patience.attempts_max <= self.failures {
            return Err(self.failures);
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = self.patience.first.saturating_mul(1 << doublings);
        Ok(wait.min(self.patience.cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(Patience::default());
        let seconds: Vec<u64> = (0..6)
            .map(|_| backoff.next().map_or(0, |wait| wait.as_secs()))
            .collect();
        assert_eq!(seconds, [2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn patience_ends() {
        let patience = Patience {
            attempts_max: 2,
            ..Patience::default()
        };
        let mut backoff = Backoff::new(patience);
        assert!(backoff.next().is_ok());
        assert_eq!(backoff.next(), Err(2));
    }
}
