//! What clients saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;

/// What clients saw in the measured time.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Latencies of requests that succeeded.
    pub latencies: Histogram,
    /// How many requests failed.
    pub errors: u64,
    /// How, with the number of times each.
    pub reasons: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds all of `other`'s.
    pub fn merge(&mut self, other: &Tally) {
        self.latencies.merge(&other.latencies);
        self.errors += other.errors;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }

    /// Counts a request that failed.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.errors += 1;
        *self.reasons.entry(reason.into()).or_default() += 1;
    }
}

/// When to begin, to measure, and to end.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Requests that end before this instant are not counted.
    pub from: Instant,
    /// Nor are those that end after this one.
    pub to: Instant,
}

impl Window {
    /// Opens after `warm_up` from now and stays open for `measured`.
    pub fn after(warm_up: Duration, measured: Duration) -> Window {
        let from = Instant::now() + warm_up;
        Window {
            from,
            to: from + measured,
        }
    }
}
