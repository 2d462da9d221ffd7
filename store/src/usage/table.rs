//! A bounded table of counts by prefix.

use std::collections::HashMap;

use keelson_proto::keelsonpb::{KeySpace, PrefixUse};

use super::{PREFIXES_MAX, Use};

/// A full table gives up so many of its prefixes at a time, so that the search for them is rare.
const DISPLACED: usize = PREFIXES_MAX / 4;

/// Counts by prefix.
#[derive(Debug, Default)]
pub(super) struct Table {
    prefixes: HashMap<Box<[u8]>, Use>,
    others: Use,
}

impl Table {
    /// Adds to a prefix.
    pub(super) fn count(&mut self, prefix: &[u8], used: Use) {
        if let Some(sum) = self.prefixes.get_mut(prefix) {
            sum.add(used);
            return;
        }
        if self.prefixes.len() == PREFIXES_MAX {
            self.displace();
        }
        self.prefixes.insert(prefix.into(), used);
    }

    /// Moves the prefixes with the fewest requests to the others.
    fn displace(&mut self) {
        let mut requests: Vec<u64> = self.prefixes.values().map(Use::requests).collect();
        requests.sort_unstable();
        let bound = requests[DISPLACED - 1];
        let mut left = DISPLACED;
        let others = &mut self.others;
        self.prefixes.retain(|_, used| {
            let displaced = left != 0 && used.requests() <= bound;
            if displaced {
                left -= 1;
                others.add(*used);
            }
            !displaced
        });
    }

    /// The counts, by prefix.
    pub(super) fn uses(&self, space: KeySpace) -> Vec<PrefixUse> {
        let uses = self.prefixes.iter();
        let mut uses: Vec<_> = uses.map(|(prefix, used)| used.of(space, prefix)).collect();
        uses.sort_unstable_by(|one, other| one.prefix.cmp(&other.prefix));
        uses
    }

    /// The counts of prefixes that were displaced.
    pub(super) fn others(&self) -> Use {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_keeps_its_place() {
        let mut table = Table::default();
        for number in 0..10_000_u32 {
            table.count(b"/busy/", Use::read(1));
            table.count(number.to_string().as_bytes(), Use::written(2));
        }
        let uses = table.uses(KeySpace::V3);
        assert!(uses.len() <= PREFIXES_MAX);
        let busy = uses.iter().find(|one| &*one.prefix == b"/busy/");
        assert_eq!(busy.map(|busy| busy.reads), Some(10_000));
        let writes: u64 = uses.iter().map(|one| one.writes).sum();
        assert_eq!(writes + table.others().writes, 10_000);
        assert_eq!(table.others().reads, 0);
    }
}
