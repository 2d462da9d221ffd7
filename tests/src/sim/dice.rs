//! The only source of randomness in a simulation.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seeded random number generator: the same seed gives the same numbers on every machine.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The generator for a seed.
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

    /// A copy of a random element; `None` if there is none.
    pub(super) fn pick_of<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let last = from.len().checked_sub(1)?;
        from.get(self.0.random_range(0..=last)).cloned()
    }

    /// A random element; `None` if there is none.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let last = from.len().checked_sub(1)?;
        Some(from[self.0.random_range(0..=last)])
    }
}
