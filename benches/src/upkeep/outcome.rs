//! What was measured of one server with one work; several rounds add up.

use std::time::Duration;

use crate::histogram::Histogram;

/// One work of one server.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The latencies of puts without the work.
    pub alone: Histogram,
    /// The latencies of puts beside it.
    pub beside: Histogram,
    /// Puts a second beside the work, of those without, of 1; of each round.
    pub rates: Vec<f64>,
    /// The duration of the work, over all rounds.
    pub took: Duration,
    /// Bytes of its answers, over all rounds.
    pub bytes: u64,
    /// The highest growth of the member's anonymous memory during the work, in bytes.
    pub growth: u64,
}

impl Outcome {
    /// Adds another round.
    pub fn merge(&mut self, other: &Outcome) {
        self.alone.merge(&other.alone);
        self.beside.merge(&other.beside);
        self.rates.extend_from_slice(&other.rates);
        self.took += other.took;
        self.bytes += other.bytes;
        self.growth = self.growth.max(other.growth);
    }

    /// The figures, in the order of the table.
    pub fn figures(&self) -> [f64; 8] {
        let millis =
            |histogram: &Histogram, quantile| histogram.quantile(quantile).as_secs_f64() * 1e3;
        let rounds = self.rates.len().max(1) as f64;
        let seconds = self.took.as_secs_f64();
        let (alone, beside) = (millis(&self.alone, 0.99), millis(&self.beside, 0.99));
        [
            seconds / rounds,
            self.bytes as f64 / 1e6 / seconds.max(1e-9),
            alone,
            beside,
            beside / alone.max(1e-9),
            millis(&self.beside, 1.0),
            self.rates.iter().sum::<f64>() / rounds,
            self.growth as f64 / 1e6,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_add_up() {
        let mut one = Outcome::default();
        one.alone.record(Duration::from_millis(2));
        one.beside.record(Duration::from_millis(3));
        one.rates.push(0.5);
        one.took = Duration::from_secs(1);
        one.bytes = 4_000_000;
        one.growth = 1_000_000;
        let mut other = one.clone();
        other.rates = vec![1.0];
        other.growth = 2_000_000;
        one.merge(&other);
        let expected = [1.0, 4.0, 2.0, 3.0, 1.5, 3.0, 0.75, 2.0];
        for (figure, expected) in one.figures().into_iter().zip(expected) {
            assert!((figure - expected).abs() < 0.01, "{figure} {expected}");
        }
    }
}
