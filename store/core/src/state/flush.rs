//! Flushing the memtable into the engine: one atomic batch at a time, written by another thread.

use std::mem;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::StateMachine;
use super::memtable::Memtable;
use super::meta::Marks;
use super::revision::{RowKey, TOMBSTONE_BYTES};
use super::shared::Memtables;
use crate::Index;
use crate::engine::{Change, Table, WriteBatch};

/// A batch for the engine. Pass it to `flushed` once the engine has written it; if the engine
/// fails, the member must stop.
#[derive(Debug)]
pub struct Flush {
    /// The rows, with the applied index.
    pub batch: WriteBatch,
    /// The applied index of the engine after the write.
    pub index: Index,
}

/// Changes in memory that no flush has taken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unflushed {
    /// The number of rows to write or delete.
    pub records: usize,
    /// The size of the rows to write, in bytes.
    pub bytes: u64,
}

/// The memory of a row besides its value, in bytes: its slot in the memtable, and its key in the
/// batch.
const ROW_BYTES: u64 = 128;

impl Unflushed {
    fn memory_bytes(&self) -> u64 {
        self.bytes + ROW_BYTES * self.records as u64
    }
}

impl StateMachine {
    /// The approximate memory of all changes that the engine lacks, in bytes, a flush in progress
    /// included.
    pub fn backlog_bytes(&self) -> u64 {
        self.flushing_bytes + self.unflushed().memory_bytes()
    }

    /// The changes that no flush has taken.
    pub fn unflushed(&self) -> Unflushed {
        let rows = self.memtables.active.len();
        let (tree_rows, tree_bytes) = self.shared.tree.read().unflushed();
        Unflushed {
            records: rows + self.changed.len() + self.dropped.len() + tree_rows,
            bytes: self.memtables.active.bytes() + tree_bytes,
        }
    }

    /// Rotates the memtable: takes everything applied so far as one batch. `None` if nothing is
    /// new, or while the previous batch is being written.
    pub fn rotate(&mut self) -> Option<Flush> {
        let swept = self.shared.swept.load(Ordering::SeqCst);
        let mark = (self.mark.index, swept);
        if self.flushing || (mark == self.rotated_at && self.unflushed().records == 0) {
            return None;
        }
        self.flushing_bytes = self.unflushed().memory_bytes();
        self.rotate_tree();
        let immutable = mem::take(&mut self.memtables.active);
        let mut dropped = mem::take(&mut self.dropped);
        dropped.sort_unstable();
        // Rows come in revision order: first those in the engine, then newer ones.
        let fresh = immutable.first().unwrap_or(RowKey::first_of(i64::MAX));
        let kept = dropped.partition_point(|row| *row < fresh);
        let mut changes = deletions(&dropped[..kept]);
        // A row that compaction dropped before it was flushed is not written at all.
        put_rows(&immutable, &dropped[kept..], &mut changes);
        let small = self.changed.iter();
        changes.extend(small.map(|(key, change)| (key.clone(), change.clone())));
        for (key, row) in self.marks().rows() {
            changes.push(((Table::Meta, Bytes::from_static(key)), Change::Put(row)));
        }
        // Nearly sorted: far cheaper than inserting row by row.
        let batch = WriteBatch {
            changes: changes.into_iter().collect(),
        };
        self.memtables.immutable = Some(immutable);
        self.changed_immutable = mem::take(&mut self.changed);
        self.rotated_at = mark;
        self.flushing = true;
        *self.shared.memtables.write() = self.memtables.clone();
        Some(Flush {
            batch,
            index: Index(self.mark.index),
        })
    }

    /// The engine has written the batch: drops the immutable memtable.
    pub fn flushed(&mut self, flush: Flush) {
        assert!(self.flushing, "no flush is in progress");
        self.flushing = false;
        self.flushing_bytes = 0;
        self.durable = flush.index;
        self.changed_immutable.clear();
        self.memtables.immutable = None;
        *self.shared.memtables.write() = Memtables::clone(&self.memtables);
        let size = self.shared.engine.size().in_use_bytes;
        self.shared.engine_bytes.store(size, Ordering::Relaxed);
    }

    /// The current values of the `Meta` rows.
    pub(super) fn marks(&self) -> Marks {
        Marks {
            cluster: self.shared.cluster,
            applied: self.applied(),
            revision: self.shared.revision(),
            compacted: self.shared.compacted(),
            swept: self.shared.swept.load(Ordering::SeqCst),
            has_auth: self.shared.auth.read().was_used(),
            is_standby: self.registry.is_standby,
        }
    }
}

type RowChange = ((Table, Bytes), Change);

/// Row keys, sliced from one allocation.
struct Keys(BytesMut);

impl Keys {
    fn cut(&mut self, key: RowKey) -> (Table, Bytes) {
        let (bytes, len) = key.encode();
        self.0.extend_from_slice(&bytes[..len]);
        (Table::Key, self.0.split().freeze())
    }
}

fn deletions(dropped: &[RowKey]) -> Vec<RowChange> {
    let mut keys = Keys(BytesMut::with_capacity(dropped.len() * TOMBSTONE_BYTES));
    let delete = |row: &RowKey| (keys.cut(*row), Change::Delete);
    dropped.iter().map(delete).collect()
}

/// Adds the rows of a memtable, except the dropped ones; both are sorted.
fn put_rows(memtable: &Memtable, dropped: &[RowKey], changes: &mut Vec<RowChange>) {
    let mut keys = Keys(BytesMut::with_capacity(memtable.len() * TOMBSTONE_BYTES));
    let mut dropped = dropped.iter().peekable();
    changes.reserve(memtable.len());
    for (key, row) in memtable.from(RowKey::first_of(i64::MIN)) {
        if dropped.next_if_eq(&key).is_none() {
            changes.push((keys.cut(*key), Change::Put(row.clone())));
        }
    }
}
