//! Durations that the threads of a member record, for the benches and for `Store::status`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A histogram with buckets that double from 1 ms, as etcd's fsync histogram has them.
#[derive(Default)]
pub struct Histogram {
    buckets: [AtomicU64; Histogram::BUCKETS],
    sum_us: AtomicU64,
}

impl Histogram {
    /// 1 ms, 2 ms, ... 8.192 s, and beyond: Prometheus's ExponentialBuckets(0.001, 2, 14).
    pub const BUCKETS: usize = 15;

    /// Records one duration.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bound = |bucket: &usize| us <= 1000 << bucket;
        let bucket = (0..Histogram::BUCKETS - 1).find(bound);
        let bucket = bucket.unwrap_or(Histogram::BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The number of recorded durations, and their sum in microseconds.
    pub fn totals(&self) -> (u64, u64) {
        let count = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum();
        (count, self.sum_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_finds_its_bucket() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 3, 9_000, 1_000_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let counts = histogram.buckets.map(|bucket| bucket.into_inner());
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    }
}
