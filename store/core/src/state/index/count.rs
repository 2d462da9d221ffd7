//! The number of the keys of a range: that of whole leaves is in the directory.

use super::{KeyIndex, LEAVES_AT_ONCE, leaf_of, leaves_behind};
use crate::state::keys::KeyRange;

/// The leaves whose numbers a count adds up before it lets a split pass: some ten microseconds.
const LEAVES_COUNTED_AT_ONCE: usize = 512;
/// A leaf that has changed since is read. It takes as long as so many numbers.
const NUMBERS_OF_A_LEAF: usize = LEAVES_COUNTED_AT_ONCE / LEAVES_AT_ONCE;

impl KeyIndex {
    /// The number of keys of the range that exist at the revision. Leaves that lie within it are
    /// not read, unless they were changed after the revision.
    pub(in crate::state) fn count(&self, range: KeyRange<'_>, revision: i64) -> usize {
        let Some(first) = range.first() else {
            return 0;
        };
        if let KeyRange::One(key) = range {
            return usize::from(self.at(key, revision).is_some());
        }
        let mut count = 0;
        let mut from: Box<[u8]> = first.into();
        loop {
            let directory = self.directory.read();
            let mut behind = leaves_behind(&directory, &from, range);
            let Some((mut next, mut last)) = behind.next() else {
                let only = leaf_of(&directory, &from);
                return count + only.count_part(&from, range, revision);
            };
            count += leaf_of(&directory, &from).count_part(&from, range, revision);
            // A leaf with another one of the range behind it lies within the range.
            let mut numbers = 0;
            for (begins, leaf) in behind {
                let known = last.count_as_whole(revision);
                numbers += known.map_or(NUMBERS_OF_A_LEAF, |_| 1);
                count += known.unwrap_or_else(|| last.count_part(b"", range, revision));
                (next, last) = (begins, leaf);
                if LEAVES_COUNTED_AT_ONCE <= numbers {
                    break;
                }
            }
            from = next.clone();
        }
    }
}
