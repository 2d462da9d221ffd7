//! A bounded table of sums by prefix.

use std::collections::HashMap;

use super::PREFIXES_MAX;

/// A full table gives up so many of its prefixes at a time, so that the search for them is rare.
const DISPLACED: usize = PREFIXES_MAX / 4;

/// What is added up for a prefix.
pub(super) trait Sum: Copy + Default {
    /// Adds another one.
    fn add(&mut self, other: Self);

    /// Prefixes of the highest weight keep their places.
    fn weight(&self) -> u64;
}

/// Sums by prefix.
#[derive(Debug, Default)]
pub(super) struct Table<S> {
    prefixes: HashMap<Box<[u8]>, S>,
    others: S,
}

impl<S: Sum> Table<S> {
    /// Adds to a prefix.
    pub(super) fn add(&mut self, prefix: &[u8], more: S) {
        if let Some(sum) = self.prefixes.get_mut(prefix) {
            sum.add(more);
            return;
        }
        if self.prefixes.len() == PREFIXES_MAX {
            self.displace();
        }
        self.prefixes.insert(prefix.into(), more);
    }

    /// Moves the prefixes of the least weight to the others.
    fn displace(&mut self) {
        let mut weights: Vec<u64> = self.prefixes.values().map(Sum::weight).collect();
        weights.sort_unstable();
        let bound = weights[DISPLACED - 1];
        let mut left = DISPLACED;
        let others = &mut self.others;
        self.prefixes.retain(|_, sum| {
            let displaced = left != 0 && sum.weight() <= bound;
            if displaced {
                left -= 1;
                others.add(*sum);
            }
            !displaced
        });
    }

    /// The sums, by prefix.
    pub(super) fn sums(&self) -> Vec<(&[u8], S)> {
        let sums = self.prefixes.iter();
        let mut sums: Vec<_> = sums.map(|(prefix, sum)| (&**prefix, *sum)).collect();
        sums.sort_unstable_by_key(|(prefix, _)| *prefix);
        sums
    }

    /// The sum of prefixes that were displaced.
    pub(super) fn others(&self) -> S {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Use;

    #[test]
    fn what_is_busy_keeps_its_place() {
        let mut table = Table::default();
        for number in 0..10_000_u32 {
            table.add(b"/busy/", Use::read(1));
            table.add(number.to_string().as_bytes(), Use::written(2));
        }
        let sums = table.sums();
        assert!(sums.len() <= PREFIXES_MAX);
        let busy = sums.iter().find(|(prefix, _)| *prefix == b"/busy/");
        assert_eq!(busy.map(|(_, busy)| busy.reads), Some(10_000));
        let writes: u64 = sums.iter().map(|(_, sum)| sum.writes).sum();
        assert_eq!(writes + table.others().writes, 10_000);
        assert_eq!(table.others().reads, 0);
    }
}
