//! The buckets of many clients, in a bounded number: the one that was not used for longest makes
//! room. It is full by then, or its client shares the limit with thousands that are as fast.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use super::bucket::{Bucket, RateLimit};

/// Buckets of one rate.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: RateLimit,
    most: usize,
    /// Each with the number of its last use.
    of: HashMap<K, (Bucket, u64)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// At most `most` of them, which is more than 0.
    pub(super) fn new(rate: RateLimit, most: usize) -> Buckets<K> {
        Buckets {
            rate,
            most,
            of: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }

    /// How long it takes until the client has these tokens; zero if it has them.
    pub(super) fn wait(&self, of: &K, now: Duration, tokens: u64) -> Duration {
        let bucket = self.of.get(of).map(|(bucket, _)| *bucket);
        bucket.unwrap_or_default().wait(self.rate, now, tokens)
    }

    /// Takes tokens of the client, also those that it does not have yet.
    pub(super) fn take(&mut self, of: &K, now: Duration, tokens: u64) {
        let number = self.uses;
        self.uses += 1;
        if let Some((bucket, last)) = self.of.get_mut(of) {
            bucket.take(self.rate, now, tokens);
            let last = std::mem::replace(last, number);
            if let Some(client) = self.by_use.remove(&last) {
                self.by_use.insert(number, client);
            }
            return;
        }
        if self.most <= self.of.len()
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.of.remove(&oldest);
        }
        let mut bucket = Bucket::default();
        bucket.take(self.rate, now, tokens);
        self.of.insert(of.clone(), (bucket, number));
        self.by_use.insert(number, of.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn buckets(most: usize) -> Buckets<u32> {
        Buckets::new(RateLimit::new(1, 1).expect("a limit"), most)
    }

    #[test]
    fn each_client_has_a_bucket() {
        let mut buckets = buckets(8);
        buckets.take(&1, NOW, 1);
        assert_eq!(buckets.wait(&1, NOW, 1), Duration::from_secs(1));
        assert_eq!(buckets.wait(&2, NOW, 1), Duration::ZERO);
    }

    #[test]
    fn the_one_that_was_not_used_for_longest_makes_room() {
        let mut buckets = buckets(3);
        for client in [1, 2, 3, 1, 4] {
            buckets.take(&client, NOW, 1);
        }
        let kept = |client| !buckets.wait(&client, NOW, 1).is_zero();
        assert_eq!([1, 2, 3, 4].map(kept), [true, false, true, true]);
        for client in 10..1_000 {
            buckets.take(&client, NOW, 1);
            assert!(buckets.of.len() <= 3 && buckets.by_use.len() == buckets.of.len());
        }
    }
}
