//! Which rows count while a compaction deletes others.
//!
//! A compaction makes rows unreadable at once and deletes them in steps, first from the index and
//! later, by a flush, from the engine. So a reader of rows may find a superseded row, and miss the
//! tombstone after it. The result of such a reader must not depend on the progress of the deletion.

use super::revision::RowKey;
use super::rows;
use super::shared::Shared;

/// A filter for rows. Its results do not change while a `CompactionHold` that is older than the
/// filter exists. For keys at or above the compaction the index has the same answer before and
/// after a sweep.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    compacted: i64,
    /// Of the rows up to the compaction, those count that are the newest of their key at this
    /// revision.
    at: i64,
    /// Whether the tombstones of the compaction's own revision count.
    last_tombstones: bool,
}

impl Kept {
    /// Every row after the compaction, and of those up to it the newest of each key at `at`, unless
    /// that is a tombstone. `at` is not below `compacted`.
    pub(super) fn new(compacted: i64, at: i64) -> Kept {
        Kept {
            compacted,
            at,
            last_tombstones: false,
        }
    }

    /// The same, with the tombstones of the compaction's own revision: a watch may begin there, and
    /// needs them as events (etcd#19179).
    pub(super) fn with_last_tombstones(self) -> Kept {
        Kept {
            last_tombstones: true,
            ..self
        }
    }

    /// Whether the row counts.
    pub(super) fn contains(self, shared: &Shared, key: RowKey, row: &[u8]) -> bool {
        if key.main > self.compacted {
            return true;
        }
        if self.last_tombstones && key.tombstone && key.main == self.compacted {
            return true;
        }
        let Some(peek) = rows::peek(row) else {
            return true;
        };
        shared.index.at(peek.key, self.at) == Some(key)
    }
}
