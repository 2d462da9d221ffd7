//! Which rows count, while a compaction deletes others.
//!
//! A compaction makes rows unreadable at once and deletes them little by little, from the index
//! first and from the engine with some later flush. So a reader of rows may meet one that is given
//! up, and miss the tombstone behind it. What such a reader takes must not depend on how far the
//! deletion is.

use super::revision::RowKey;
use super::rows;
use super::shared::Shared;

/// A rule for rows. Its answers stay the same as long as a `CompactionHold` from before it was made
/// lives: what the index says of a key at or above the compaction is the same before and after a
/// sweep.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    compacted: i64,
    /// Of the rows up to the compaction, those that are their key's newest at this revision count.
    at: i64,
}

impl Kept {
    /// Every row behind the compaction, and of those up to it the newest of each key at `at`,
    /// unless that is a tombstone. `at` is not below `compacted`.
    pub(super) fn new(compacted: i64, at: i64) -> Kept {
        Kept { compacted, at }
    }

    /// Whether the row counts.
    pub(super) fn contains(self, shared: &Shared, key: RowKey, row: &[u8]) -> bool {
        if key.main > self.compacted {
            return true;
        }
        let Some(peek) = rows::peek(row) else {
            return true;
        };
        shared.index.at(peek.key, self.at) == Some(key)
    }
}
