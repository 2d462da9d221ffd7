//! A token bucket, without a clock: the generic cell rate algorithm (ITU-T I.371). The state is one
//! time, at which the bucket is full again.

use std::time::Duration;

/// How many requests a second, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time in which one token comes, in nanoseconds.
    interval_ns: u64,
    /// The tokens of a full bucket.
    burst: u32,
}

impl RateLimit {
    /// `None` for 0 a second: no limit. A burst of 0 stands for the requests of one second.
    pub fn new(per_second: u32, burst: u32) -> Option<RateLimit> {
        let interval_ns = 1_000_000_000_u64.checked_div(per_second.into())?.max(1);
        let burst = match burst {
            0 => per_second,
            burst => burst,
        };
        Some(RateLimit { interval_ns, burst })
    }

    /// One request an hour after the burst: a slow machine gets none meanwhile.
    #[cfg(test)]
    pub(crate) fn hourly(burst: u32) -> Option<RateLimit> {
        let interval_ns = 3_600_000_000_000;
        Some(RateLimit { interval_ns, burst })
    }

    fn time_of(self, tokens: u64) -> Duration {
        Duration::from_nanos(self.interval_ns.saturating_mul(tokens))
    }
}

/// A bucket. The default is full.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// When it is full again, since any beginning that all calls have in common.
    full_at: Duration,
}

impl Bucket {
    /// How long it takes until these tokens are there; zero if they are.
    pub(super) fn wait(&self, rate: RateLimit, now: Duration, tokens: u64) -> Duration {
        let after = self.after(rate, now, tokens);
        let full = now.saturating_add(rate.time_of(rate.burst.into()));
        after.saturating_sub(full)
    }

    /// Takes tokens, also those that are not there yet.
    pub(super) fn take(&mut self, rate: RateLimit, now: Duration, tokens: u64) {
        self.full_at = self.after(rate, now, tokens);
    }

    fn after(&self, rate: RateLimit, now: Duration, tokens: u64) -> Duration {
        self.full_at.max(now).saturating_add(rate.time_of(tokens))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes a token if it is there.
    fn admits(bucket: &mut Bucket, rate: RateLimit, now: Duration) -> bool {
        let admits = bucket.wait(rate, now, 1).is_zero();
        if admits {
            bucket.take(rate, now, 1);
        }
        admits
    }

    fn rate(per_second: u32, burst: u32) -> RateLimit {
        RateLimit::new(per_second, burst).expect("a limit")
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_for_each_interval() {
        let rate = rate(10, 3);
        let mut bucket = Bucket::default();
        let mut at = |ms| admits(&mut bucket, rate, Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(99), at(100), at(100)], [false, true, false]);
        // Full again, and not fuller.
        let later = [at(9_000), at(9_000), at(9_000), at(9_000)];
        assert_eq!(later, [true, true, true, false]);
    }

    #[test]
    fn no_rate_is_no_limit_and_no_burst_a_second() {
        assert_eq!(RateLimit::new(0, 7), None);
        assert_eq!(rate(50, 0), rate(50, 50));
        let fastest = rate(u32::MAX, u32::MAX);
        let wait = Bucket::default().wait(fastest, Duration::MAX, u64::MAX);
        assert_eq!(wait, Duration::ZERO, "no overflow");
    }

    /// A rate, and pauses between requests in nanoseconds.
    fn arrivals() -> impl Strategy<Value = (RateLimit, Vec<u64>)> {
        let rates = (1_u32..5_000, 1_u32..40).prop_map(|(rate, burst)| RateLimit::new(rate, burst));
        let pause = prop_oneof![Just(0), 0_u64..1_000_000, 0_u64..3_000_000_000];
        let pauses = prop::collection::vec(pause, 1..200);
        (rates.prop_map(|rate| rate.expect("not 0")), pauses)
    }

    proptest! {
        /// In no stretch of time more than the burst and what came in it.
        #[test]
        fn no_stretch_has_more_than_burst_and_rate((rate, pauses) in arrivals()) {
            let mut bucket = Bucket::default();
            let mut now = Duration::ZERO;
            let mut admitted = Vec::new();
            for pause in pauses {
                now += Duration::from_nanos(pause);
                if admits(&mut bucket, rate, now) {
                    admitted.push(now);
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let came = (*to - *from).as_nanos() / u128::from(rate.interval_ns);
                    let most = u128::from(rate.burst) + came;
                    prop_assert!((last - first + 1) as u128 <= most);
                }
            }
        }

        /// One that keeps to its rate is never refused, also after a burst.
        #[test]
        fn the_wait_is_exact((rate, pauses) in arrivals()) {
            let mut bucket = Bucket::default();
            let mut now = Duration::ZERO;
            for pause in pauses {
                now += Duration::from_nanos(pause);
                let wait = bucket.wait(rate, now, 1);
                if let Some(early) = wait.checked_sub(Duration::from_nanos(1)) {
                    prop_assert!(!admits(&mut bucket, rate, now + early));
                }
                now += wait;
                prop_assert!(admits(&mut bucket, rate, now));
            }
        }

        /// Tokens that are taken before they are there are paid back by waiting.
        #[test]
        fn what_is_taken_ahead_is_waited_for((rate, _) in arrivals(), ahead in 1_u64..100) {
            let mut bucket = Bucket::default();
            let tokens = u64::from(rate.burst) + ahead;
            bucket.take(rate, Duration::ZERO, tokens);
            let wait = bucket.wait(rate, Duration::ZERO, 1);
            prop_assert_eq!(wait, rate.time_of(ahead + 1));
        }
    }
}
