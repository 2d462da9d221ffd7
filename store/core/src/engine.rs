//! The door to the storage engine: a small trait, and the one engine that needs no disk.
//!
//! An engine is an ordered map per table. It may know nothing of revisions or of Raft: it gets
//! batches, each of which it makes durable whole or not at all. Its errors are fatal to the member.
//! `keelson-store` has the engines that write to disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

/// The tables of the engine. The numbers are on disk and in snapshots: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Revision key -> `KeyValue`, as etcd lays it out.
    Key = 0,
    /// Applied mark, revisions, compaction marks, format version.
    Meta = 1,
    /// Member id (big endian) -> `Member`.
    Members = 2,
    /// Member id (big endian) -> nothing: removed for ever.
    Removed = 3,
    /// Alarms that are on.
    Alarms = 4,
    /// Leases.
    Leases = 5,
    /// Users, roles, and whether auth is on.
    Auth = 6,
    /// The v2 tree.
    Tree = 7,
}

impl Table {
    /// Every table, in the order in which a snapshot sends them.
    pub const ALL: [Table; 8] = [
        Table::Key,
        Table::Meta,
        Table::Members,
        Table::Removed,
        Table::Alarms,
        Table::Leases,
        Table::Auth,
        Table::Tree,
    ];

    /// The table with that number, if there is one.
    pub fn from_number(number: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|table| *table as u8 == number)
    }
}

/// The engine failed; the member must stop. Damage and a full disk look alike to the caller: the
/// text says which it was and what to do.
#[derive(Debug, thiserror::Error)]
#[error("storage engine: {0}")]
pub struct EngineError(pub String);

/// What one write does to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store the row, replacing what was there.
    Put(Bytes),
    /// Remove the row; removing an absent row is no error.
    Delete,
}

/// One atomic write: at most one change a row, in key order.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// The changes, ordered by table and key.
    pub changes: BTreeMap<(Table, Bytes), Change>,
}

impl WriteBatch {
    /// Stores a row.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes
            .insert((table, key.into()), Change::Put(value.into()));
    }

    /// Removes a row.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.changes.insert((table, key.into()), Change::Delete);
    }
}

/// How big an engine is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineSize {
    /// What it takes on disk.
    pub total_bytes: u64,
    /// What of that holds rows.
    pub in_use_bytes: u64,
}

/// An ordered map per table, written in atomic batches, read from any thread.
///
/// # Errors
/// Every method's error is fatal: the caller ends the process and a restart recovers.
pub trait Engine: Send + Sync {
    /// The row's value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Calls `visit` for every row between the bounds in key order, until it answers false.
    /// Keep it short: some engines pin freed space while it runs.
    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError>;

    /// Applies the whole batch or nothing; durable when it returns. One writer at a time.
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// Its size now.
    fn size(&self) -> EngineSize;
}

/// An engine in memory: for the simulator, for tests, and for `--storage-engine=memory`.
#[derive(Default)]
pub struct MemoryEngine {
    rows: RwLock<BTreeMap<(Table, Bytes), Bytes>>,
    /// Of all keys and values.
    bytes: AtomicU64,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }
}

impl Engine for MemoryEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let rows = self.rows.read();
        Ok(rows.get(&(table, Bytes::copy_from_slice(key))).cloned())
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let key = |bound: Bound<&[u8]>| bound.map(|key| (table, Bytes::copy_from_slice(key)));
        let from = match key(from) {
            Bound::Unbounded => Bound::Included((table, Bytes::new())),
            bounded => bounded,
        };
        let rows = self.rows.read();
        for ((row_table, row_key), value) in rows.range((from, Bound::Unbounded)) {
            let beyond = match to {
                Bound::Unbounded => false,
                Bound::Included(end) => end < &row_key[..],
                Bound::Excluded(end) => end <= &row_key[..],
            };
            if *row_table != table || beyond || !visit(row_key, value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut rows = self.rows.write();
        let mut bytes = self.bytes.load(Ordering::Relaxed);
        for (row, change) in &batch.changes {
            let key_bytes = row.1.len() as u64;
            let before = match change {
                Change::Put(value) => {
                    bytes += key_bytes + value.len() as u64;
                    rows.insert(row.clone(), value.clone())
                }
                Change::Delete => rows.remove(row),
            };
            bytes -= before.map_or(0, |before| key_bytes + before.len() as u64);
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn size(&self) -> EngineSize {
        let total_bytes = self.bytes.load(Ordering::Relaxed);
        EngineSize {
            total_bytes,
            in_use_bytes: total_bytes,
        }
    }
}
