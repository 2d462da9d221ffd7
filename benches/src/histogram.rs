//! Latencies in a histogram with an error below 0.1 % over the whole range, in 200 KB.

use std::time::Duration;

/// Longer latencies count as this one.
const HIGHEST: Duration = Duration::from_secs(3600);
/// Latencies that differ by less are counted as equal, in nanoseconds.
const LOWEST_NANOS: u64 = 128;
/// Three significant digits: the error is at most 1/1024.
const DIGITS: u8 = 3;

/// Counts of latencies.
#[derive(Clone, Debug)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    fn default() -> Histogram {
        let inner = hdrhistogram::Histogram::new_with_bounds(LOWEST_NANOS, nanos(HIGHEST), DIGITS);
        Histogram(inner.expect("constant bounds that hdrhistogram accepts"))
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// Counts one latency `count` times.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        self.0.saturating_record_n(nanos(latency), count);
    }

    /// Adds all of `other`'s.
    pub fn merge(&mut self, other: &Histogram) {
        let added = self.0.add(&other.0);
        added.expect("a histogram of the same bounds");
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `quantile` of them (0 to 1) do not exceed; zero if there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }
}

fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_counted_within_a_thousandth() {
        for nanos in [1_000_u64, 54_321, 123_456_789, 3_599_999_999_999] {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_nanos(nanos));
            let read = histogram.quantile(1.0).as_nanos() as f64;
            assert!(
                (read - nanos as f64).abs() <= 128.0 + nanos as f64 / 1000.0,
                "{nanos}: {read}"
            );
        }
        let mut histogram = Histogram::default();
        histogram.record_many(Duration::MAX, 2);
        assert_eq!(histogram.total(), 2);
    }

    #[test]
    fn quantiles_of_a_merged_histogram() {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        assert_eq!(low.quantile(0.5), Duration::ZERO);
        for millis in 1..=50 {
            low.record(Duration::from_millis(millis));
            high.record(Duration::from_millis(millis + 50));
        }
        low.merge(&high);
        assert_eq!(low.total(), 100);
        let millis = |quantile| low.quantile(quantile).as_secs_f64() * 1e3;
        for (quantile, expected) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            assert!((millis(quantile) - expected).abs() <= expected / 1000.0);
        }
    }
}
