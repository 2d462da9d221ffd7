//! The part of a member that survives its process: the product's write-ahead log on a simulated
//! disk, and an engine.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::engine::{Change, Engine, MemoryEngine, Table, WriteBatch};
use keelson_core::member::{RecoveryFlags, StartKind};
use keelson_core::node::NodeConfig;
use keelson_core::state::{Genesis, Limits, RowKey};
use keelson_core::{ClusterId, MemberId};
use keelson_store::internals::disk::Disk;
use keelson_store::internals::disk::sim::SimDisk;
use keelson_store::internals::engine::generation::CURRENT;
use keelson_store::internals::recovery::{self, Opened, Opening};
use keelson_store::internals::wal::{Identity, Recovered, Wal, WalConfig, WalError};

use super::dice::Dice;
use super::mutant::Mutant;
use super::tree;

/// The log, as the simulator uses it.
pub(super) type Log = Wal<SimDisk>;

/// The cluster id of every simulation.
pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);

pub(super) const WAL: &str = "/wal";
const SNAP: &str = "/snap";

/// The disk of one machine.
pub(super) struct Storage {
    pub(super) disk: Arc<SimDisk>,
    /// An earlier copy of the disk.
    pub(super) backup: Option<SimDisk>,
    /// The engines by generation. Each is written as a whole and at once, so it is not on the
    /// simulated disk. `CURRENT` is there, and names the one in use.
    engines: BTreeMap<PathBuf, Arc<MemoryEngine>>,
    /// The engine in use.
    pub(super) engine: Arc<MemoryEngine>,
}

impl Storage {
    pub(super) fn new() -> Storage {
        Storage {
            disk: Arc::new(SimDisk::new()),
            backup: None,
            engines: BTreeMap::new(),
            engine: Arc::new(MemoryEngine::new()),
        }
    }

    /// The kind of a start, by the disk's contents.
    pub(super) fn start_kind(&self) -> Result<StartKind, WalError> {
        let identity = Log::identity(&self.disk, Path::new(WAL))?;
        let current = self.disk.exists(&Path::new(SNAP).join(CURRENT));
        let has_state = current.expect("the simulated disk fails only when it crashes");
        Ok(StartKind::of(identity.is_some(), has_state))
    }

    /// The product's steps from an open log to a member.
    pub(super) fn go_on(
        &mut self,
        log: &mut Log,
        recovered: Recovered,
        genesis: Option<Genesis>,
        node: NodeConfig,
        mutant: Option<Mutant>,
    ) -> Result<Opened<SimDisk>, recovery::OpeningError> {
        // A generation whose directory a crash has removed is gone; its number is used again.
        let disk = Arc::clone(&self.disk);
        let flags = RecoveryFlags {
            unsafe_no_fsync: mutant == Some(Mutant::BeganUnchecked),
            ..RecoveryFlags::default()
        };
        let exists = |dir: &PathBuf| disk.exists(dir).unwrap_or(false);
        self.engines.retain(|dir, _| exists(dir));
        let opening = Opening {
            disk: Arc::clone(&disk),
            dir: Path::new(SNAP),
            genesis,
            flags,
            limits: Limits::default(),
            node,
            open_engine: |dir: &Path| {
                let engine = self.use_engine(dir);
                if mutant == Some(Mutant::HistoryForgotten) {
                    tree::forget_history(&engine);
                }
                Ok(engine as Arc<dyn Engine>)
            },
        };
        recovery::open(log, recovered, opening)
    }

    /// Stores the engine of a generation.
    pub(super) fn keep(&mut self, dir: &Path, engine: Arc<MemoryEngine>) {
        self.engines.insert(dir.to_path_buf(), engine);
    }

    /// Switches to the engine in that directory.
    pub(super) fn use_engine(&mut self, dir: &Path) -> Arc<MemoryEngine> {
        let engine = self.engines.entry(dir.to_path_buf()).or_default();
        self.engine = Arc::clone(engine);
        Arc::clone(&self.engine)
    }

    /// Opens the log as a starting process does.
    pub(super) fn open(&self, member: MemberId) -> Result<(Log, Recovered), WalError> {
        let identity = Identity {
            cluster: CLUSTER,
            member,
        };
        // Small segments, so that a run rotates and recycles many.
        let config = WalConfig {
            segment_bytes: 16 << 10,
            ..WalConfig::default()
        };
        Wal::create_or_open(Arc::clone(&self.disk), Path::new(WAL), identity, config)
    }

    /// The process ends in the middle of a write, perhaps with a loss of power.
    pub(super) fn crash(&self, log: &mut Log, power_fails: bool, dice: &mut Dice) {
        if dice.chance(0.7) {
            // The gathered frames reach the file, but their sync never ends.
            self.disk.fail_sync(dice.between(0, 1));
            let _ = log.sync();
        }
        if !power_fails {
            return self.disk.kill();
        }
        // Most sectors are kept or lost together: mixed states are less interesting.
        let keep = dice.pick(&[0.0, 0.5, 0.9, 1.0]).expect("not empty");
        self.disk.crash(&mut |of| match of {
            3 if dice.chance(0.1) => 2,
            2 | 3 => u64::from(dice.chance(keep)),
            of => dice.between(0, of - 1),
        });
    }

    /// Writes a batch into the engine, durably.
    pub(super) fn write(&self, batch: &WriteBatch) {
        self.engine.write(batch).expect("memory does not fail");
    }

    /// A mutant: writes half of a batch.
    pub(super) fn write_half(&self, batch: &WriteBatch) {
        let half = batch.changes.len() / 2;
        let changes = batch.changes.iter().take(half);
        self.write(&WriteBatch {
            changes: changes
                .map(|(row, change)| (row.clone(), change.clone()))
                .collect(),
        });
    }

    /// A mutant: writes a batch without its marks.
    pub(super) fn write_rows_only(&self, batch: &WriteBatch) {
        let rows = batch
            .changes
            .iter()
            .filter(|((table, _), _)| *table != Table::Meta);
        self.write(&WriteBatch {
            changes: rows
                .map(|(row, change): (_, &Change)| (row.clone(), change.clone()))
                .collect(),
        });
    }
}

/// The rows of a table, in order.
pub(super) fn rows(engine: &MemoryEngine, table: Table) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    let mut note = |key: &[u8], value: &[u8]| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        true
    };
    let read = engine.range(table, Bound::Unbounded, Bound::Unbounded, &mut note);
    read.expect("memory does not fail");
    rows
}

/// A mutant: removes the tombstones from an engine.
pub(super) fn forget_tombstones(engine: &MemoryEngine) {
    let mut batch = WriteBatch::default();
    for (key, _) in rows(engine, Table::Key) {
        if RowKey::decode(&key).is_some_and(|row| row.tombstone) {
            batch.delete(Table::Key, key);
        }
    }
    engine.write(&batch).expect("memory does not fail");
}
