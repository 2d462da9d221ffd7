//! Captures of the whole state at one index, for followers that need a snapshot.
//!
//! Rows never change, so the pairs are not copied: a capture records the revision, holds back
//! compaction, and reads them in short steps while entries are applied. The small tables are copied
//! at once, except the values of the v2 tree, which are shared with it. Leases are copied from
//! memory: an entry must not wait while 100,000 of their rows are read from the engine.
//!
//! What is sent depends on the revision and the compaction alone. Rows that were compacted before
//! the capture may still be in the engine, and a flush between two steps may delete them; none of
//! them is sent. Otherwise a receiver could get a put without the tombstone after it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::AppliedMark;
use keelson_proto::peer::snapshot_chunk::Part;
use keelson_proto::peer::{Row, Rows, SnapshotChunk, SnapshotEnd};

use super::error::StateError;
use super::kept::Kept;
use super::leases::{Lease, lease_key};
use super::meta::Marks;
use super::registry::table;
use super::scan::{Scan, Step};
use super::shared::{CompactionHold, Shared};
use super::{StateMachine, meta};
use crate::engine::{Change, EngineError, Table};
use crate::tree::TreeRow;

/// Rows per read of the engine.
const ROWS_PER_STEP: usize = 1000;

/// A row of a small table.
#[derive(Clone)]
enum SmallRow {
    Plain(Bytes, Bytes),
    /// Encoded when it is sent: until then its value is shared with the tree.
    Tree(TreeRow),
    /// Encoded when it is sent.
    Lease(Lease),
}

impl From<SmallRow> for Row {
    fn from(row: SmallRow) -> Row {
        let (key, value) = match row {
            SmallRow::Plain(key, value) => (key, value),
            SmallRow::Tree(row) => row.encode(),
            SmallRow::Lease(lease) => (lease_key(lease.id), lease.row()),
        };
        Row { key, value }
    }
}

/// A consistent snapshot that is being read. It can be sent to another thread; a clone continues
/// independently from the same position.
#[derive(Clone)]
pub struct Capture {
    mark: AppliedMark,
    revision: i64,
    compacted: i64,
    version: Option<String>,
    shared: Arc<Shared>,
    _hold: CompactionHold,
    /// The scan of the pairs; `None` once all are read.
    pairs: Option<Scan>,
    kept: Kept,
    /// The rows of the small tables, table by table.
    small: VecDeque<(Table, VecDeque<SmallRow>)>,
    sum: Checksum,
    ended: bool,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut capture = f.debug_struct("Capture");
        capture.field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl StateMachine {
    /// Captures the current state.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn capture(&self) -> Result<Capture, StateError> {
        let hold = self.shared.hold();
        let compacted = self.shared.compacted();
        let small = Table::ALL.into_iter().filter(|table| *table != Table::Key);
        let small = small.map(|table| Ok((table, self.small_rows(table)?)));
        Ok(Capture {
            mark: self.applied(),
            revision: self.shared.revision(),
            compacted,
            version: self.registry.version.clone(),
            shared: Arc::clone(&self.shared),
            _hold: hold,
            pairs: Some(Scan::new(self.shared.revision())),
            kept: Kept::new(compacted, compacted).with_last_tombstones(),
            small: small.collect::<Result<_, StateError>>()?,
            sum: Checksum::default(),
            ended: false,
        })
    }

    /// The rows of a small table: the engine's, then the changes being flushed, then the newer
    /// ones. The v2 tree and the leases are entirely in memory.
    fn small_rows(&self, of: Table) -> Result<VecDeque<SmallRow>, StateError> {
        if of == Table::Tree {
            let tree = self.shared.tree.read();
            return Ok(tree.captured().map(SmallRow::Tree).collect());
        }
        if of == Table::Leases {
            let leases = self.shared.leases.read();
            return Ok(leases.in_row_order().map(SmallRow::Lease).collect());
        }
        let mut rows = table(&*self.shared.engine, of)?;
        for changes in [&self.changed_immutable, &self.changed] {
            put_changes(&mut rows, of, changes);
        }
        if of == Table::Meta {
            let marks = self.marks_sent().rows().into_iter();
            rows.extend(marks.map(|(key, row)| (Bytes::from_static(key), row)));
            debug_assert!(rows.contains_key(meta::APPLIED));
        }
        let rows = rows.into_iter();
        Ok(rows.map(|(key, row)| SmallRow::Plain(key, row)).collect())
    }

    /// The `Meta` rows for a receiver: it gets no compacted rows, so its compaction is finished.
    fn marks_sent(&self) -> Marks {
        let marks = self.marks();
        Marks {
            swept: marks.compacted,
            ..marks
        }
    }
}

fn put_changes(
    rows: &mut BTreeMap<Bytes, Bytes>,
    of: Table,
    changes: &BTreeMap<(Table, Bytes), Change>,
) {
    for ((table, key), change) in changes {
        match change {
            _ if *table != of => {}
            Change::Put(row) => {
                rows.insert(key.clone(), row.clone());
            }
            Change::Delete => {
                rows.remove(key);
            }
        }
    }
}

impl Capture {
    /// The position of the state.
    pub fn mark(&self) -> &AppliedMark {
        &self.mark
    }

    /// The store's revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compaction; -1 before the first.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The cluster version, once decided.
    pub fn cluster_version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The rows of a small table that [`Capture::next_small`] has not returned, in the order of
    /// their keys. Each is encoded when the iterator comes to it.
    pub fn rows_of(&self, of: Table) -> impl Iterator<Item = Row> {
        let found = self.small.iter().filter(move |(table, _)| *table == of);
        found.flat_map(|(_, rows)| rows.iter().cloned().map(Row::from))
    }

    /// The next rows, about `max_bytes` of them and at least one. After the last rows comes the
    /// end, with their number and checksum, then `None`.
    ///
    /// # Errors
    /// Those of the engine, and a row that cannot be read.
    pub fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<SnapshotChunk>, EngineError> {
        let rows = match self.next_pairs(max_bytes)? {
            Some(rows) => Some(rows),
            None => self.next_small(max_bytes),
        };
        let part = match rows {
            Some(rows) => {
                self.sum.add(&rows);
                Part::Rows(rows)
            }
            None if self.ended => return Ok(None),
            None => {
                self.ended = true;
                Part::End(self.sum.end())
            }
        };
        Ok(Some(SnapshotChunk { part: Some(part) }))
    }

    /// The chunks as an iterator.
    pub fn chunks(
        mut self,
        max_bytes: usize,
    ) -> impl Iterator<Item = Result<SnapshotChunk, EngineError>> {
        std::iter::from_fn(move || self.next_chunk(max_bytes).transpose())
    }

    /// The next pairs, about `max_bytes` of them and at least one; `None` after the last.
    ///
    /// # Errors
    /// Those of the engine, and a row that cannot be read.
    pub fn next_pairs(&mut self, max_bytes: usize) -> Result<Option<Rows>, EngineError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(scan) = &mut self.pairs
            && (rows.is_empty() || bytes < max_bytes)
        {
            // Rows that are not sent count as well: a step must be short.
            let mut budget = ROWS_PER_STEP;
            let more = scan.step(&self.shared, &mut |key, value| {
                budget -= 1;
                if self.kept.contains(&self.shared, key, &value) {
                    let (key, len) = key.encode();
                    bytes += len + value.len();
                    rows.push(Row {
                        key: Bytes::copy_from_slice(&key[..len]),
                        value: value.to_bytes(),
                    });
                }
                match budget == 0 || bytes >= max_bytes {
                    true => Step::Break(()),
                    false => Step::Continue(()),
                }
            })?;
            if !more {
                self.pairs = None;
            }
        }
        let table = Table::Key as u32;
        Ok((!rows.is_empty()).then_some(Rows { table, rows }))
    }

    /// The next rows of the other tables, which are of one table, likewise.
    pub fn next_small(&mut self, max_bytes: usize) -> Option<Rows> {
        while self.small.front()?.1.is_empty() {
            self.small.pop_front();
        }
        let (table, left) = self.small.front_mut()?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while bytes < max_bytes.max(1)
            && let Some(row) = left.pop_front()
        {
            let row = Row::from(row);
            bytes += row.key.len() + row.value.len();
            rows.push(row);
        }
        let table = *table as u32;
        Some(Rows { table, rows })
    }
}

/// A running checksum over rows, computed by sender and receiver.
#[derive(Clone, Default)]
pub(super) struct Checksum {
    rows: u64,
    crc: u32,
}

impl Checksum {
    /// Adds rows. Table and lengths are included, so that no byte can move from one field to the
    /// next.
    pub(super) fn add(&mut self, rows: &Rows) {
        for row in &rows.rows {
            let words = [rows.table, row.key.len() as u32, row.value.len() as u32];
            for word in words {
                self.crc = crc32c::crc32c_append(self.crc, &word.to_be_bytes());
            }
            self.crc = crc32c::crc32c_append(self.crc, &row.key);
            self.crc = crc32c::crc32c_append(self.crc, &row.value);
        }
        self.rows += rows.rows.len() as u64;
    }

    /// The final chunk.
    pub(super) fn end(&self) -> SnapshotEnd {
        SnapshotEnd {
            rows: self.rows,
            crc32c: self.crc,
        }
    }
}
