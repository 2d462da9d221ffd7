//! Latencies in logarithmic buckets: an error under 1 % over the whole range, in 30 KB.

use std::time::Duration;

/// Buckets of a power of two: 64, so a bucket is at most 1/64 wide.
const FINE_BITS: u32 = 6;
const FINE: usize = 1 << FINE_BITS;
const BUCKETS: usize = (64 - FINE_BITS as usize + 1) * FINE;

/// Counts of latencies.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            max_nanos: 0,
        }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// Counts one latency `count` times.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += count;
        self.total += count;
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// Adds all of `other`'s.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latency that `quantile` of them (0 to 1) do not exceed; zero if there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        assert!((0.0..=1.0).contains(&quantile));
        let rank = ((self.total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(middle(bucket).min(self.max_nanos));
            }
        }
        Duration::ZERO
    }
}

/// The bucket of a value: exact below `FINE`, then `FINE` buckets a power of two.
fn bucket(nanos: u64) -> usize {
    if nanos < FINE as u64 {
        return nanos as usize;
    }
    let power = 63 - nanos.leading_zeros();
    let fine = (nanos >> (power - FINE_BITS)) as usize - FINE;
    (power - FINE_BITS + 1) as usize * FINE + fine
}

/// The value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let shift = (bucket / FINE - 1) as u32;
    let low = ((FINE + bucket % FINE) as u64) << shift;
    low + (1_u64 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_middle_and_is_narrow() {
        for nanos in [0, 1, 63, 64, 65, 127, 128, 1_000, 123_456_789, u64::MAX] {
            let bucket = bucket(nanos);
            assert!(bucket < BUCKETS);
            let middle = middle(bucket);
            assert_eq!(super::bucket(middle), bucket);
            assert!(middle.abs_diff(nanos) as f64 <= nanos as f64 / 64.0);
        }
    }

    #[test]
    fn quantiles_of_a_merged_histogram() {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        for millis in 1..=50 {
            low.record(Duration::from_millis(millis));
            high.record(Duration::from_millis(millis + 50));
        }
        low.merge(&high);
        assert_eq!(low.total(), 100);
        let millis = |quantile| low.quantile(quantile).as_secs_f64() * 1e3;
        for (quantile, expected) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            assert!((millis(quantile) - expected).abs() <= expected / 64.0);
        }
    }
}
