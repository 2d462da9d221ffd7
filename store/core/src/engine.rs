//! The interface of storage engines, and an engine in memory.
//!
//! An engine is an ordered map per table, independent of revisions and of Raft. It makes each batch
//! durable as a whole or not at all. Its errors are fatal to the member. `keelson-store` has the
//! engines that write to disk.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

/// The tables of the engine. Their numbers are part of the disk and snapshot formats: never reuse
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Revision key -> `KeyValue`, in etcd's layout.
    Key = 0,
    /// Applied index, revisions, progress of compaction, format version.
    Meta = 1,
    /// Member id (big endian) -> `Member`.
    Members = 2,
    /// Member id (big endian) -> empty: removed permanently.
    Removed = 3,
    /// Active alarms.
    Alarms = 4,
    /// Lease id (big endian) -> `LeaseRow`.
    Leases = 5,
    /// Users and roles of the v3 API, and whether auth is enabled.
    Auth = 6,
    /// The v2 tree.
    Tree = 7,
}

impl Table {
    /// Every table, in the order of a snapshot.
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

/// The engine failed; the member must stop. The caller treats damage and a full disk alike: the
/// text names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("storage engine: {0}")]
pub struct EngineError(pub String);

/// A change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store the row, replacing its value.
    Put(Bytes),
    /// Remove the row; removing an absent row is not an error.
    Delete,
}

/// An atomic write: at most one change per row, in key order.
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

/// The size of an engine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineSize {
    /// The size on disk.
    pub total_bytes: u64,
    /// The part of it that holds rows.
    pub in_use_bytes: u64,
}

/// Gets the value of a row, as [`Engine::get`] does.
pub type GetRow<'a> = dyn Fn(Table, &[u8]) -> Result<Option<Bytes>, EngineError> + 'a;

/// An ordered map per table, written in atomic batches, read from any thread.
///
/// # Errors
/// Every method's error is fatal: the caller ends the process and a restart recovers.
pub trait Engine: Send + Sync {
    /// The value of a row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Calls `read` once, with a function that gets rows. An engine may give all of them from one
    /// moment, and for many of them more cheaply than [`Engine::get`] does. Keep it short.
    fn get_many(&self, read: &mut dyn FnMut(&GetRow<'_>)) -> Result<(), EngineError> {
        read(&|table, key| self.get(table, key));
        Ok(())
    }

    /// Calls `visit` for every row between the bounds in key order, until it returns false. Keep it
    /// short: some engines cannot reuse freed space while it runs.
    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError>;

    /// Applies the batch atomically; durable when it returns. There must be one writer at a time.
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// The current size.
    fn size(&self) -> EngineSize;

    /// The engine for a downcast to its type; `None` if it offers none.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// An engine in memory: for the simulator, for tests, and for `--storage-engine=memory`.
#[derive(Default)]
pub struct MemoryEngine {
    rows: RwLock<BTreeMap<(Table, Bytes), Bytes>>,
    /// The bytes of all keys and values.
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
