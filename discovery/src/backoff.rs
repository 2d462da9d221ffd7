//! Exponential backoff: waits of 2, 4, 8 ... seconds, up to a cap.

use std::time::Duration;

/// How long to keep trying a service that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait; each further one is twice as long.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// Failures in a row before the operation fails. etcd's own bound is practically infinite.
    pub attempts_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            first: Duration::from_secs(2),
            cap: Duration::from_secs(30),
            attempts_max: u32::MAX,
        }
    }
}

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: RetryPolicy,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(retry: RetryPolicy) -> Backoff {
        let failures = 0;
        Backoff { retry, failures }
    }

    /// Resets the count after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure. The error is the number of failures once that exceeds the
    /// bound.
    pub(crate) fn next(&mut self) -> Result<Duration, u32> {
        self.failures = self.failures.saturating_add(1);
        if self.retry.attempts_max <= self.failures {
            return Err(self.failures);
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = self.retry.first.saturating_mul(1 << doublings);
        Ok(wait.min(self.retry.cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(RetryPolicy::default());
        let seconds: Vec<u64> = (0..6)
            .map(|_| backoff.next().map_or(0, |wait| wait.as_secs()))
            .collect();
        assert_eq!(seconds, [2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn patience_ends() {
        let retry = RetryPolicy {
            attempts_max: 2,
            ..RetryPolicy::default()
        };
        let mut backoff = Backoff::new(retry);
        assert!(backoff.next().is_ok());
        assert_eq!(backoff.next(), Err(2));
    }
}
