//! The one source of chance in a simulation.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Dice thrown from a seed: the same seed, the same throws, on every machine.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of a seed.
    pub(super) fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// True with that probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        0.0 < probability && self.0.random::<f64>() < probability
    }

    /// A number between the two, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// A copy of one of them; `None` if there is none.
    pub(super) fn pick_of<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let last = from.len().checked_sub(1)?;
        from.get(self.0.random_range(0..=last)).cloned()
    }

    /// One of them; `None` if there is none.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let last = from.len().checked_sub(1)?;
        Some(from[self.0.random_range(0..=last)])
    }
}
