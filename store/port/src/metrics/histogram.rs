//! A histogram of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations in buckets, for any thread: recording one is two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bounds in nanoseconds, in order.
    bounds: Box<[u64]>,
    /// One more than the bounds: the last has what is above all of them.
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

/// What a histogram had at one moment.
pub(super) struct HistogramRead {
    /// Upper bounds in the unit, the last infinite, and the number of durations up to each.
    pub(super) cumulative: Vec<(f64, u64)>,
    /// In the unit.
    pub(super) sum: f64,
    pub(super) count: u64,
}

impl Histogram {
    /// Buckets at `first` and at its doubles, `count` in all: Prometheus's
    /// `ExponentialBuckets(first, 2, count)`.
    #[must_use]
    pub fn exponential(first: Duration, count: u32) -> Histogram {
        let first = nanos(first);
        let bounds = (0..count).map(|bucket| first.saturating_mul(1 << bucket));
        Histogram::with_bounds(bounds.collect())
    }

    /// Prometheus's `DefBuckets`: 5 ms to 10 s.
    #[must_use]
    pub fn of_requests() -> Histogram {
        let bounds_ms = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
        Histogram::with_bounds(bounds_ms.iter().map(|ms| ms * 1_000_000).collect())
    }

    fn with_bounds(bounds: Box<[u64]>) -> Histogram {
        Histogram {
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            sum_ns: AtomicU64::new(0),
        }
    }

    /// Records one duration.
    pub fn observe(&self, took: Duration) {
        let took = nanos(took);
        let bucket = self.bounds.partition_point(|bound| *bound < took);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(took, Ordering::Relaxed);
    }

    /// The number of recorded durations, and their sum in microseconds.
    pub fn totals(&self) -> (u64, u64) {
        let counts = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed));
        (counts.sum(), self.sum_ns.load(Ordering::Relaxed) / 1_000)
    }

    pub(super) fn read(&self, unit: Duration) -> HistogramRead {
        let unit = nanos(unit).max(1) as f64;
        let bounds = self.bounds.iter().map(|ns| *ns as f64 / unit);
        let mut count = 0;
        let mut cumulative = Vec::with_capacity(self.buckets.len());
        for (bound, bucket) in bounds.chain([f64::INFINITY]).zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            cumulative.push((bound, count));
        }
        HistogramRead {
            cumulative,
            sum: self.sum_ns.load(Ordering::Relaxed) as f64 / unit,
            count,
        }
    }
}

/// Buckets that double from 1 ms to 8.192 s, as those of etcd's disk metrics.
impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::exponential(Duration::from_millis(1), 14)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
        let counts = histogram.buckets.iter();
        let counts: Vec<u64> = counts
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(histogram.totals(), (6, 1_009_006_000));
        assert_eq!(
            histogram.read(Duration::from_secs(1)).cumulative[13],
            (8.192, 4)
        );
    }
}
