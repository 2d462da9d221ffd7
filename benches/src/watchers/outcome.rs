//! What was measured on one server.

use std::time::Duration;

use keelson_tests::proc::usage::Memory;

/// One event's way to all watchers, from the first byte of the PUT on.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Until half of them had it.
    pub half: Duration,
    /// Until all had it.
    pub all: Duration,
}

/// One server's figures; several rounds add up.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Of each round: memory before the first watcher.
    pub before: Vec<Memory>,
    /// Of each round: memory when all watch.
    pub open: Vec<Memory>,
    /// Of each round: memory after the last event.
    pub after: Vec<Memory>,
    /// Of each round: how long it took until all watched.
    pub opening: Vec<Duration>,
    /// All events.
    pub deliveries: Vec<Delivery>,
    /// The server's CPU from the first event to the last.
    pub cpu: Duration,
    /// Events times watchers.
    pub delivered: u64,
}

impl Outcome {
    /// Adds another round.
    pub fn merge(&mut self, other: Outcome) {
        self.before.extend(other.before);
        self.open.extend(other.open);
        self.after.extend(other.after);
        self.opening.extend(other.opening);
        self.deliveries.extend(other.deliveries);
        self.cpu += other.cpu;
        self.delivered += other.delivered;
    }

    /// Bytes that a watcher costs, resident and anonymous: the mean of all rounds.
    pub fn bytes_per_watcher(&self, count: usize) -> (f64, f64) {
        let total = |of: fn(&Memory) -> u64| {
            let pairs = self.before.iter().zip(&self.open);
            let grown = pairs.map(|(before, open)| of(open) as f64 - of(before) as f64);
            grown.fold(0.0, |sum, one| sum + one) / (self.open.len().max(1) * count.max(1)) as f64
        };
        (
            total(|memory| memory.resident),
            total(|memory| memory.anonymous),
        )
    }

    /// The server's CPU for one event at one watcher, its watching again included, in microseconds.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.delivered.max(1) as f64
    }
}

/// The value in the middle; zero if there is none.
pub fn median(values: impl Iterator<Item = Duration>) -> Duration {
    let mut values: Vec<Duration> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The mean of the resident memory, in bytes.
pub fn mean_resident(values: &[Memory]) -> u64 {
    let total: u64 = values.iter().map(|memory| memory.resident).sum();
    total / values.len().max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_watcher_costs_is_a_mean_over_rounds() {
        let memory = |resident| Memory {
            resident,
            anonymous: resident / 2,
        };
        let round = |before, open| Outcome {
            before: vec![memory(before)],
            open: vec![memory(open)],
            cpu: Duration::from_micros(30),
            delivered: 10,
            ..Outcome::default()
        };
        let mut outcome = round(1000, 2000);
        outcome.merge(round(1000, 4000));
        assert_eq!(outcome.bytes_per_watcher(10), (200.0, 100.0));
        assert!((outcome.cpu_micros() - 3.0).abs() < 1e-9);
        assert_eq!(mean_resident(&outcome.open), 3000);
    }

    #[test]
    fn medians() {
        let millis = |values: &[u64]| median(values.iter().map(|n| Duration::from_millis(*n)));
        assert_eq!(millis(&[9, 1, 5]), Duration::from_millis(5));
        assert_eq!(millis(&[]), Duration::ZERO);
    }
}
