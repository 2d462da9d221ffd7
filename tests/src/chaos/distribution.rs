//! Statistics of durations.

use std::fmt;
use std::time::Duration;

/// Sorted durations.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    sorted: Vec<Duration>,
}

impl Distribution {
    /// Adds a duration.
    pub fn add(&mut self, duration: Duration) {
        let place = self.sorted.partition_point(|other| *other <= duration);
        self.sorted.insert(place, duration);
    }

    /// The smallest duration that `percent` of all do not exceed.
    ///
    /// # Panics
    /// There are no durations.
    pub fn percentile(&self, percent: usize) -> Duration {
        assert!(percent <= 100);
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted[rank - 1]
    }

    /// Whether there are no durations.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "none");
        }
        let seconds = |percent| self.percentile(percent).as_secs_f64();
        let [min, median, p99, max] = [0, 50, 99, 100].map(seconds);
        write!(
            f,
            "min {min:.3} s, median {median:.3} s, p99 {p99:.3} s, max {max:.3} s"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_added() {
        let mut distribution = Distribution::default();
        for millis in [30, 10, 20, 40] {
            distribution.add(Duration::from_millis(millis));
        }
        let millis = |percent| distribution.percentile(percent).as_millis();
        assert_eq!([0, 50, 99, 100].map(millis), [10, 20, 40, 40]);
    }
}
