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

/// A batch to be written. Give it back to `flushed` once the engine has it; if the engine fails,
/// the member must stop.
#[derive(Debug)]
pub struct Flush {
    /// What to write: rows, and the applied mark with them.
    pub batch: WriteBatch,
    /// What the engine will hold then.
    pub index: Index,
}

/// Changes in memory that no flush has taken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unflushed {
    /// Rows to be written or deleted.
    pub records: usize,
    /// What the rows to be written weigh.
    pub bytes: u64,
}

/// What a row takes in memory besides its value: its place in a chunk, and its key in the batch.
const ROW_BYTES: u64 = 128;

impl Unflushed {
    fn memory_bytes(&self) -> u64 {
        self.bytes + ROW_BYTES * self.records as u64
    }
}

impl StateMachine {
    /// What this holds in memory that the engine does not have yet, a flush under way included; in
    /// bytes, roughly.
    pub fn backlog_bytes(&self) -> u64 {
        self.flushing_bytes + self.unflushed().memory_bytes()
    }

    /// How much waits to be flushed.
    pub fn unflushed(&self) -> Unflushed {
        let rows = self.memtables.active.len();
        let (tree_rows, tree_bytes) = self.shared.tree.read().unflushed();
        Unflushed {
            records: rows + self.changed.len() + self.dropped.len() + tree_rows,
            bytes: self.memtables.active.bytes() + tree_bytes,
        }
    }

    /// Takes everything applied so far as one batch; `None` if there is nothing new, or if the last
    /// batch is still being written.
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
        // Rows come in revision order: what is already in the engine, then what is not.
        let fresh = immutable.first().unwrap_or(RowKey::first_of(i64::MAX));
        let kept = dropped.partition_point(|row| *row < fresh);
        let mut changes = deletions(&dropped[..kept]);
        // A row that compaction took before the engine ever saw it is not written at all.
        put_rows(&immutable, &dropped[kept..], &mut changes);
        let small = self.changed.iter();
        changes.extend(small.map(|(key, change)| (key.clone(), change.clone())));
        for (key, row) in self.marks().rows() {
            changes.push(((Table::Meta, Bytes::from_static(key)), Change::Put(row)));
        }
        // Nearly sorted: far cheaper than row by row.
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
        assert!(self.flushing, "this flush was not asked for");
        self.flushing = false;
        self.flushing_bytes = 0;
        self.durable = flush.index;
        self.changed_immutable.clear();
        self.memtables.immutable = None;
        *self.shared.memtables.write() = Memtables::clone(&self.memtables);
        let size = self.shared.engine.size().in_use_bytes;
        self.shared.engine_bytes.store(size, Ordering::Relaxed);
    }

    /// The marks as they stand.
    pub(super) fn marks(&self) -> Marks {
        Marks {
            cluster: self.shared.cluster,
            applied: self.mark.clone(),
            revision: self.shared.revision(),
            compacted: self.shared.compacted(),
            swept: self.shared.swept.load(Ordering::SeqCst),
        }
    }
}

type RowChange = ((Table, Bytes), Change);

/// Row keys, cut from one allocation.
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

/// The rows of a segment but for the dropped ones; both are in order.
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
