//! What a member has that survives its process: the real write-ahead log on a simulated disk, and
//! an engine.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::engine::{Change, Engine, MemoryEngine, Table, WriteBatch};
use keelson_core::state::RowKey;
use keelson_core::{ClusterId, MemberId, SnapshotMark};
use keelson_store::disk::sim::SimDisk;
use keelson_store::wal::{Identity, Recovered, Wal, WalConfig, WalError};

use super::dice::Dice;

/// The log, as the simulator uses it.
pub(super) type Log = Wal<SimDisk>;

/// The cluster of every simulation.
pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);

/// The disk of one machine.
pub(super) struct Storage {
    disk: Arc<SimDisk>,
    /// Replaced as a whole when a snapshot comes.
    pub(super) engine: Arc<MemoryEngine>,
    /// What the engine held when it began.
    pub(super) began: SnapshotMark,
}

impl Storage {
    pub(super) fn new() -> Storage {
        Storage {
            disk: Arc::new(SimDisk::new()),
            engine: Arc::new(MemoryEngine::new()),
            began: SnapshotMark::default(),
        }
    }

    /// Opens the log as a starting process does.
    pub(super) fn open(&self, member: MemberId) -> Result<(Log, Recovered), WalError> {
        let identity = Identity {
            cluster: CLUSTER,
            member,
        };
        // Small segments: a run rotates and recycles many.
        let config = WalConfig {
            segment_bytes: 16 << 10,
            ..WalConfig::default()
        };
        Wal::create_or_open(Arc::clone(&self.disk), Path::new("/wal"), identity, config)
    }

    /// The process ends in the middle of whatever it was writing; with it perhaps the machine.
    pub(super) fn crash(&self, log: &mut Log, power_fails: bool, dice: &mut Dice) {
        if dice.chance(0.7) {
            // What was gathered gets to the file, but its sync never ends.
            self.disk.fail_sync(dice.between(0, 1));
            let _ = log.sync();
        }
        if !power_fails {
            return self.disk.kill();
        }
        // Most sectors live or die together: the interesting states are not the noisy ones.
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

    /// A mutant: half of a batch.
    pub(super) fn write_half(&self, batch: &WriteBatch) {
        let half = batch.changes.len() / 2;
        let changes = batch.changes.iter().take(half);
        self.write(&WriteBatch {
            changes: changes
                .map(|(row, change)| (row.clone(), change.clone()))
                .collect(),
        });
    }

    /// A mutant: a batch without its marks.
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

/// A mutant: an engine without the rows that say that a key is gone.
pub(super) fn forget_tombstones(engine: &MemoryEngine) {
    let mut batch = WriteBatch::default();
    let mut note = |key: &[u8], _: &[u8]| {
        if RowKey::decode(key).is_some_and(|row| row.tombstone) {
            batch.delete(Table::Key, Bytes::copy_from_slice(key));
        }
        true
    };
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    let read = engine.range(Table::Key, from, to, &mut note);
    read.expect("memory does not fail");
    engine.write(&batch).expect("memory does not fail");
}
