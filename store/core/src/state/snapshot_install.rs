//! Installation of a received snapshot in an empty engine.

use std::sync::Arc;

use keelson_proto::peer::{Row, Rows, SnapshotEnd};

use super::error::StateError;
use super::meta;
use super::snapshot::Checksum;
use crate::engine::{Engine, EngineError, Table, WriteBatch};

/// The size of a write batch, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Why a snapshot could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A newer release sent it.
    #[error(
        "the snapshot has a table {0} that this release does not know: a newer release sent it. \
         Upgrade this member"
    )]
    UnknownTable(u32),
    /// The layout is of a newer release, or damaged.
    #[error("the snapshot cannot be used: {0}")]
    State(#[from] StateError),
    /// Rows are missing or damaged. Discard the engine and request the snapshot again.
    #[error("snapshot is damaged: {0}")]
    Damaged(String),
}

/// Receives a snapshot's rows. Until `finish`, the engine counts as empty: the `Meta` rows come
/// last.
pub struct SnapshotBuilder {
    engine: Arc<dyn Engine>,
    batch: WriteBatch,
    batch_bytes: usize,
    /// The `Meta` rows, which make the rest valid.
    marks: Vec<Row>,
    sum: Checksum,
}

impl SnapshotBuilder {
    /// Begins with an empty engine.
    pub fn new(engine: Arc<dyn Engine>) -> SnapshotBuilder {
        SnapshotBuilder {
            engine,
            batch: WriteBatch::default(),
            batch_bytes: 0,
            marks: Vec::new(),
            sum: Checksum::default(),
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`SnapshotError::UnknownTable`] and [`SnapshotError::State`] for a snapshot of a newer
    /// release, and those of the engine.
    pub fn push(&mut self, rows: Rows) -> Result<(), SnapshotError> {
        self.sum.add(&rows);
        let number = u8::try_from(rows.table).ok();
        let table = number.and_then(Table::from_number);
        let table = table.ok_or(SnapshotError::UnknownTable(rows.table))?;
        if table == Table::Meta {
            for row in &rows.rows {
                meta::check_row(&row.key, &row.value)?;
            }
            self.marks.extend(rows.rows);
            return Ok(());
        }
        for row in rows.rows {
            self.batch_bytes += row.key.len() + row.value.len();
            self.batch.put(table, row.key, row.value);
        }
        if self.batch_bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Checks that the snapshot is complete, and makes it valid. Then `StateMachine::open` opens
    /// it.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if rows are missing or differ, and those of the engine.
    pub fn finish(mut self, end: SnapshotEnd) -> Result<(), SnapshotError> {
        let got = self.sum.end();
        if got != end {
            let text = format!(
                "{} rows with checksum {:08x}, expected {} with {:08x}",
                got.rows, got.crc32c, end.rows, end.crc32c
            );
            return Err(SnapshotError::Damaged(text));
        }
        self.write()?;
        for row in std::mem::take(&mut self.marks) {
            self.batch.put(Table::Meta, row.key, row.value);
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), SnapshotError> {
        self.engine.write(&self.batch)?;
        self.batch.changes.clear();
        self.batch_bytes = 0;
        Ok(())
    }
}
