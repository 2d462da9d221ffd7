//! The median of a few ratios, and how far it can be trusted.

/// Ratios of a run's rounds: their median, and the interval in which the true one lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The interval's lower end.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Spread {
    /// The shortest interval that misses the true median in at most `miss` of 1 of all runs; all of
    /// the ratios, if none does. There must be a ratio.
    pub fn of(mut ratios: Vec<f64>, miss: f64) -> Spread {
        ratios.sort_by(f64::total_cmp);
        let (count, middle) = (ratios.len(), ratios.len() / 2);
        let median = match count % 2 {
            0 => f64::midpoint(ratios[middle - 1], ratios[middle]),
            _ => ratios[middle],
        };
        let left_out = left_out(count, miss);
        Spread {
            low: ratios[left_out],
            median,
            high: ratios[count - 1 - left_out],
        }
    }

    /// Of the reciprocals.
    pub fn inverse(self) -> Spread {
        Spread {
            low: 1.0 / self.high,
            median: 1.0 / self.median,
            high: 1.0 / self.low,
        }
    }

    /// How far the interval goes from the median, of 1.
    pub fn noise(self) -> f64 {
        f64::max(self.high / self.median, self.median / self.low) - 1.0
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spread { low, median, high } = self;
        write!(f, "**{median:.3}** ({low:.2}-{high:.2})")
    }
}

/// How many ratios are left out at each end.
fn left_out(count: usize, miss: f64) -> usize {
    let most = count.saturating_sub(1) / 2;
    let fits = |left_out: &usize| 2.0 * tail(count, *left_out) <= miss;
    (0..=most).take_while(fits).last().unwrap_or(0)
}

/// The probability that the interval of that many ratios misses the true median.
pub fn misses(count: usize, miss: f64) -> f64 {
    2.0 * tail(count, left_out(count, miss))
}

/// How often `count` tosses of a coin come up heads `heads` times at most, of 1: so often the true
/// median is below the ratio that has `heads` smaller ones.
fn tail(count: usize, heads: usize) -> f64 {
    let (mut ways, mut sum) = (1.0, 1.0);
    for drawn in 0..heads {
        ways *= (count - drawn) as f64 / (drawn + 1) as f64;
        sum += ways;
    }
    sum * 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the binomial distribution, as tables have them.
    #[test]
    fn the_interval_is_as_short_as_its_promise_allows() {
        for (count, miss, expected) in [
            (8, 0.05, 0),
            (9, 0.05, 1),
            (10, 0.05, 1),
            (12, 0.05, 2),
            (20, 0.05, 5),
            (10, 0.01, 0),
            (3, 0.05, 0),
            (1, 0.05, 0),
        ] {
            assert_eq!(left_out(count, miss), expected, "{count} {miss}");
        }
        assert!((misses(8, 0.05) - 2.0 / 256.0).abs() < 1e-12);
        assert!((misses(10, 0.05) - 22.0 / 1024.0).abs() < 1e-12);
    }

    #[test]
    fn one_odd_round_of_ten_is_left_out() {
        let mut ratios = vec![1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0];
        ratios.push(3.0);
        let spread = Spread::of(ratios, 0.05);
        assert_eq!(spread.to_string(), "**1.000** (0.99-1.02)");
        assert!((spread.noise() - 0.02).abs() < 1e-9);
        assert_eq!(spread.inverse().to_string(), "**1.000** (0.98-1.01)");
    }
}
