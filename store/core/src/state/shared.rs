//! The state that the applier publishes to all readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use keelson_proto::mvccpb::KeyValue;
use parking_lot::{Mutex, RwLock};

use super::auth::Auth;
use super::counts::Counters;
use super::error::Error;
use super::index::KeyIndex;
use super::leases::Leases;
use super::memtable::Memtable;
use super::registry::Registry;
use super::revision::RowKey;
use super::running::Divergence;
use super::{Limits, rows};
use crate::ClusterId;
use crate::engine::{Engine, EngineError, GetRow, Table};
use crate::tree::Tree;

/// The active and the immutable memtable. A reader takes both at once. A row leaves `immutable`
/// only once the engine has it, so the memtables and the engine together have every row.
#[derive(Clone, Default)]
pub(super) struct Memtables {
    pub(super) active: Arc<Memtable>,
    /// The memtable that is being flushed.
    pub(super) immutable: Option<Arc<Memtable>>,
}

impl Memtables {
    /// The first row that the engine may lack.
    pub(super) fn first(&self) -> Option<RowKey> {
        let immutable = self
            .immutable
            .as_ref()
            .and_then(|immutable| immutable.first());
        immutable.or_else(|| self.active.first())
    }
}

/// The published state. Any thread may read it at any time.
pub(super) struct Shared {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) index: KeyIndex,
    pub(super) memtables: RwLock<Memtables>,
    pub(super) registry: RwLock<Arc<Registry>>,
    pub(super) auth: RwLock<Arc<Auth>>,
    /// Written by the applier only. A key is attached a moment before its revision is published.
    pub(super) leases: RwLock<Leases>,
    /// Written by the applier only; readers hold the lock while they build their answers.
    pub(super) tree: RwLock<Tree>,
    pub(super) cluster: ClusterId,
    pub(super) limits: Limits,
    /// The newest revision whose rows are all visible.
    pub(super) revision: AtomicI64,
    /// Revisions below this one cannot be read; -1 before the first compaction, as in etcd.
    pub(super) compacted: AtomicI64,
    /// The compaction whose rows are deleted from the engine.
    pub(super) swept: AtomicI64,
    pub(super) applied: AtomicU64,
    /// The index of the last entry that changed rights with auth enabled, or that of the opened
    /// state. Written after `auth`, and before any later revision.
    pub(super) auth_changed: AtomicU64,
    /// The number of readers that need the rows of old revisions.
    holds: AtomicUsize,
    /// The size of the engine after its last write: querying it for every put would be expensive.
    pub(super) engine_bytes: AtomicU64,
    pub(super) counters: Counters,
    /// Whether this member's state differs from the majority's.
    pub(super) fenced: AtomicBool,
    pub(super) divergence: Mutex<Option<Divergence>>,
}

impl Shared {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        limits: Limits,
        cluster: ClusterId,
        registry: Registry,
        auth: Auth,
        leases: Leases,
        tree: Tree,
    ) -> Shared {
        let engine_bytes = AtomicU64::new(engine.size().in_use_bytes);
        Shared {
            engine,
            index: KeyIndex::default(),
            memtables: RwLock::default(),
            registry: RwLock::new(Arc::new(registry)),
            auth: RwLock::new(Arc::new(auth)),
            leases: RwLock::new(leases),
            tree: RwLock::new(tree),
            cluster,
            limits,
            revision: AtomicI64::new(1),
            compacted: AtomicI64::new(-1),
            swept: AtomicI64::new(-1),
            applied: AtomicU64::new(0),
            auth_changed: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
            engine_bytes,
            counters: Counters::default(),
            fenced: AtomicBool::new(false),
            divergence: Mutex::new(None),
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision.load(Ordering::SeqCst)
    }

    pub(super) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::SeqCst)
    }

    pub(super) fn memtables(&self) -> Memtables {
        self.memtables.read().clone()
    }

    /// Keeps compaction from deleting rows while the returned hold exists.
    pub(super) fn hold(self: &Arc<Shared>) -> CompactionHold {
        self.holds.fetch_add(1, Ordering::SeqCst);
        CompactionHold(Arc::clone(self))
    }

    pub(super) fn held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
    }
}

/// While a hold exists, no row is deleted.
pub(super) struct CompactionHold(Arc<Shared>);

impl Clone for CompactionHold {
    fn clone(&self) -> CompactionHold {
        self.0.hold()
    }
}

impl Drop for CompactionHold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why a read within the state machine failed.
#[derive(Debug)]
pub(super) enum ReadError {
    /// An error for the client.
    Refused(Error),
    /// The index names a row that is missing: a compaction has deleted it, or the store is damaged.
    Missing(RowKey),
    /// The engine failed: the member must stop.
    Engine(EngineError),
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> ReadError {
        ReadError::Engine(error)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> ReadError {
        ReadError::Refused(error)
    }
}

impl ReadError {
    /// For a reader that no compaction can pass: the client's error, or the reason to stop.
    pub(super) fn settle(self) -> Result<Error, EngineError> {
        match self {
            ReadError::Refused(error) => Ok(error),
            ReadError::Missing(row) => Err(missing(row)),
            ReadError::Engine(error) => Err(error),
        }
    }
}

/// The error for a row that is in the index and nowhere else.
pub(super) fn missing(row: RowKey) -> EngineError {
    let RowKey { main, sub, .. } = row;
    EngineError(format!(
        "the row of revision {main}_{sub} is missing: the store is damaged; \
         remove this member and add it again"
    ))
}

/// Reads at one moment: everything up to revision `current`.
pub(super) struct Reads<'a> {
    pub(super) shared: &'a Shared,
    pub(super) memtables: &'a Memtables,
    pub(super) current: i64,
    pub(super) compacted: i64,
}

impl Reads<'_> {
    /// The pair in that row.
    pub(super) fn row(&self, key: RowKey) -> Result<KeyValue, ReadError> {
        self.row_with(key, &|table, key| self.shared.engine.get(table, key))
    }

    /// Calls `see` with the pair of each row, until it returns false. The rows of the engine are
    /// read together.
    pub(super) fn each_row(
        &self,
        keys: &[RowKey],
        mut see: impl FnMut(KeyValue) -> bool,
    ) -> Result<(), ReadError> {
        let mut outcome = Ok(());
        self.shared.engine.get_many(&mut |get| {
            for key in keys {
                match self.row_with(*key, get).map(&mut see) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
        })?;
        outcome
    }

    fn row_with(&self, key: RowKey, get: &GetRow<'_>) -> Result<KeyValue, ReadError> {
        let memtables = self.memtables;
        let fresh = memtables.active.get(key);
        let fresh = fresh.or_else(|| memtables.immutable.as_ref()?.get(key));
        if let Some(row) = fresh {
            return Ok(rows::decode(row.clone())?);
        }
        let (bytes, len) = key.encode();
        let row = get(Table::Key, &bytes[..len])?;
        Ok(rows::decode(row.ok_or(ReadError::Missing(key))?)?)
    }

    /// The current pair of the key.
    pub(super) fn newest(&self, key: &[u8]) -> Result<Option<KeyValue>, ReadError> {
        let row = self.shared.index.at(key, self.current);
        row.map(|row| self.row(row)).transpose()
    }
}
