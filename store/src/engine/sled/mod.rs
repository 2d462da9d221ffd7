//! A storage engine on sled 0.34, with the write path that measured fastest and without its slow
//! ones.
//!
//! Rows of the key table come in ascending order and by the thousand, so 16 of them share a sled
//! row ("chunk"). It is written by plain inserts, which do not block readers. The other tables have
//! few rows and use sled's atomic batch.
//!
//! A batch is atomic although its chunks are not:
//! 1. New key rows, all after the committed end of the key table, are inserted and made durable.
//! 2. One atomic batch puts the other tables' rows, the new committed end, and a redo list of the
//!    changes below that end; it is made durable. This is the commit.
//! 3. The redo list is applied. The next commit makes that durable and then erases the list.
//!
//! Opening removes key rows after the committed end (a batch without a commit) and applies the
//! redo list again. Readers may see step 1 before step 2; the state machine reads such rows only
//! through its index, which it updates from the batch it wrote.
//!
//! Durable means `flush()`, then new blob files, then `fdatasync` of sled's one file. On Linux
//! sled itself only starts write-back (`sync_file_range`), and never syncs a blob.

mod chunks;
mod open;

use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use keelson_core::engine::{Change, Engine, EngineError, EngineSize, Table, WriteBatch};
use parking_lot::Mutex;

use super::SLED_FILE;
use crate::disk::{Disk, DiskFile, RealDisk, RealFile};
use chunks::{Chunks, RowChange};

const BLOBS_DIR: &str = "blobs";

/// The first key byte of the engine's own rows in the atomic tree, after every table.
const OWN: u8 = 0xff;
const COMMITTED_END: [u8; 2] = [OWN, 0];
const REDO: u8 = 1;
/// The size limit of a redo row, in bytes, below sled's limit for blobs.
const REDO_BYTES: usize = 8 << 10;

const REDO_PUT: u8 = 1;
const REDO_DELETE: u8 = 0;

/// A storage engine on sled.
pub struct SledEngine {
    db: ::sled::Db,
    chunks: Chunks,
    rest: ::sled::Tree,
    dir: PathBuf,
    writer: Mutex<Writer>,
    size_bytes: AtomicU64,
}

/// The state of the single writer.
struct Writer {
    file: RealFile,
    blobs: BTreeSet<String>,
    /// The last committed key of the key table, even if it was deleted since.
    committed_end: Vec<u8>,
    /// The redo rows that the next commit erases.
    redo_rows: u32,
}

impl SledEngine {
    /// Opens or creates the database in `dir`.
    ///
    /// # Errors
    /// A database that sled cannot open. If its directory is moved away, the state is rebuilt.
    pub fn open(dir: &Path) -> Result<SledEngine, EngineError> {
        let db = open::open(dir)?;
        let fail =
            |error: io::Error| EngineError(format!("cannot open {}: {error}", dir.display()));
        let engine = SledEngine {
            chunks: Chunks::new(db.open_tree("key").map_err(explain)?),
            rest: db.open_tree("rest").map_err(explain)?,
            db,
            dir: dir.to_path_buf(),
            writer: Mutex::new(Writer {
                file: RealDisk.open(&dir.join(SLED_FILE)).map_err(fail)?,
                blobs: BTreeSet::new(),
                committed_end: Vec::new(),
                redo_rows: 0,
            }),
            size_bytes: AtomicU64::new(0),
        };
        engine.recover()?;
        RealDisk.sync_dir(dir).map_err(fail)?;
        Ok(engine)
    }

    fn recover(&self) -> Result<(), EngineError> {
        let writer = &mut *self.writer.lock();
        let end = self.rest.get(COMMITTED_END).map_err(explain)?;
        writer.committed_end = end.map(|end| end.to_vec()).unwrap_or_default();
        self.chunks.remove_behind(&writer.committed_end)?;
        for row in self.rest.scan_prefix([OWN, REDO]) {
            let (_, packed) = row.map_err(explain)?;
            self.redo(&packed)?;
            writer.redo_rows += 1;
        }
        self.make_durable(writer)?;
        self.measure()
    }

    fn write_locked(&self, writer: &mut Writer, batch: &WriteBatch) -> Result<(), EngineError> {
        let split = Split::new(batch, &writer.committed_end);
        self.insert_new(writer, &split)?;
        let redo = self.commit(writer, split)?;
        redo.iter().try_for_each(|packed| self.redo(packed))?;
        self.measure()
    }

    /// Step 1: inserts the new key rows.
    fn insert_new(&self, writer: &mut Writer, split: &Split<'_>) -> Result<(), EngineError> {
        if split.new_rows.is_empty() && writer.redo_rows == 0 {
            return Ok(());
        }
        self.chunks.append(&split.new_rows)?;
        self.make_durable(writer)
    }

    /// Step 2: commits. Returns the changes for step 3.
    fn commit(
        &self,
        writer: &mut Writer,
        mut split: Split<'_>,
    ) -> Result<Vec<Vec<u8>>, EngineError> {
        if let Some((end, _)) = split.new_rows.last() {
            split.rest.insert(&COMMITTED_END, *end);
            writer.committed_end = end.to_vec();
        }
        for (number, packed) in (0u32..).zip(&split.redo) {
            split.rest.insert(redo_key(number), &packed[..]);
        }
        let rows = u32::try_from(split.redo.len()).expect("a batch has fewer rows");
        for number in rows..writer.redo_rows {
            split.rest.remove(redo_key(number));
        }
        self.rest.apply_batch(split.rest).map_err(explain)?;
        self.make_durable(writer)?;
        writer.redo_rows = rows;
        Ok(split.redo)
    }

    fn redo<'a>(&self, packed: &'a [u8]) -> Result<(), EngineError> {
        let rows = super::pack::rows(packed)?.into_iter();
        let change = |(key, change): super::pack::Row<'a>| match change.split_first() {
            Some((&REDO_PUT, value)) => (key, Some(value)),
            _ => (key, None),
        };
        let changes: Vec<RowChange<'_>> = rows.map(change).collect();
        self.chunks.change(&changes)
    }

    /// Makes everything inserted so far durable.
    fn make_durable(&self, writer: &mut Writer) -> Result<(), EngineError> {
        self.db.flush().map_err(explain)?;
        let synced = sync_new_blobs(&self.dir.join(BLOBS_DIR), &mut writer.blobs);
        synced
            .and_then(|()| writer.file.sync_data())
            .map_err(|error| explain(error.into()))
    }

    fn measure(&self) -> Result<(), EngineError> {
        let size = self.db.size_on_disk().map_err(explain)?;
        self.size_bytes.store(size, Ordering::Relaxed);
        Ok(())
    }
}

impl Engine for SledEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if table == Table::Key {
            return self.chunks.get(key);
        }
        let value = self.rest.get(rest_key(table, key)).map_err(explain)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        if table == Table::Key {
            return self.chunks.range(from, to, visit);
        }
        let end = |bound: Bound<&[u8]>, unbounded| match bound {
            Bound::Unbounded => unbounded,
            bounded => bounded.map(|key| rest_key(table, key)),
        };
        let from = end(from, Bound::Included(vec![table as u8]));
        let to = end(to, Bound::Excluded(vec![table as u8 + 1]));
        if is_empty(&from, &to) {
            return Ok(());
        }
        for row in self.rest.range((from, to)) {
            let (key, value) = row.map_err(explain)?;
            if !visit(&key[1..], &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.write_locked(&mut self.writer.lock(), batch)
    }

    fn size(&self) -> EngineSize {
        let size = self.size_bytes.load(Ordering::Relaxed);
        EngineSize {
            total_bytes: size,
            in_use_bytes: size,
        }
    }
}

/// A batch, divided into the three steps.
struct Split<'a> {
    new_rows: Vec<super::pack::Row<'a>>,
    rest: ::sled::Batch,
    redo: Vec<Vec<u8>>,
}

impl<'a> Split<'a> {
    fn new(batch: &'a WriteBatch, committed_end: &[u8]) -> Split<'a> {
        let mut split = Split {
            new_rows: Vec::new(),
            rest: ::sled::Batch::default(),
            redo: Vec::new(),
        };
        for ((table, key), change) in &batch.changes {
            match (table, change) {
                (Table::Key, Change::Put(value)) if committed_end < &key[..] => {
                    split.new_rows.push((key, value));
                }
                (Table::Key, change) if &key[..] <= committed_end => split.redo(key, change),
                // No row is after the committed end.
                (Table::Key, _) => {}
                (table, Change::Put(value)) => split.rest.insert(rest_key(*table, key), &value[..]),
                (table, Change::Delete) => split.rest.remove(rest_key(*table, key)),
            }
        }
        split
    }

    fn redo(&mut self, key: &[u8], change: &Change) {
        if self
            .redo
            .last()
            .is_none_or(|packed| REDO_BYTES < packed.len())
        {
            self.redo.push(Vec::new());
        }
        let packed = self
            .redo
            .last_mut()
            .expect("one was just pushed if there was none");
        match change {
            Change::Put(value) => {
                super::pack::push(packed, key, &[&[REDO_PUT], &value[..]].concat())
            }
            Change::Delete => super::pack::push(packed, key, &[REDO_DELETE]),
        }
    }
}

fn rest_key(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

fn redo_key(number: u32) -> Vec<u8> {
    [&[OWN, REDO][..], &number.to_be_bytes()].concat()
}

/// Whether no key can be between the bounds; sled panics at some of them.
fn is_empty(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => to < from,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => to <= from,
        _ => false,
    }
}

fn sync_new_blobs(dir: &Path, known: &mut BTreeSet<String>) -> io::Result<()> {
    let names: BTreeSet<String> = RealDisk.list(dir)?.into_iter().collect();
    let mut any = false;
    for name in names.difference(known) {
        any = true;
        match RealDisk.open(&dir.join(name)) {
            Ok(file) => file.sync_data()?,
            // sled removes blobs in the background.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    *known = names;
    match any {
        true => RealDisk.sync_dir(dir),
        false => Ok(()),
    }
}

fn explain(error: ::sled::Error) -> EngineError {
    EngineError(match error {
        ::sled::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            "no space left on the device that holds the database; free some or enlarge it, then \
             start this member again: nothing that was acknowledged is lost"
                .to_owned()
        }
        ::sled::Error::Corruption { .. } => {
            format!("the database is damaged ({error}): {}", open::REMEDY)
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two batches: rows 0 to 39; then rows 40 to 59, with rows 10 to 29 deleted and row 5
    /// changed.
    fn batches() -> (WriteBatch, WriteBatch) {
        let (mut first, mut second) = (WriteBatch::default(), WriteBatch::default());
        (0..40).for_each(|row| first.put(Table::Key, vec![row], vec![row; 700]));
        first.put(Table::Meta, "applied", "1");
        (40..60).for_each(|row| second.put(Table::Key, vec![row], vec![row; 700]));
        (10..30).for_each(|row| second.delete(Table::Key, vec![row]));
        second.put(Table::Key, vec![5], "changed");
        second.put(Table::Meta, "applied", "2");
        (first, second)
    }

    fn keys(engine: &SledEngine) -> Vec<u8> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.extend_from_slice(key);
            true
        };
        let all = (Bound::Unbounded, Bound::Unbounded);
        engine.range(Table::Key, all.0, all.1, &mut visit).unwrap();
        keys
    }

    #[test]
    fn a_batch_that_did_not_commit_leaves_nothing() {
        let (first, second) = batches();
        let dir = tempfile::tempdir().unwrap();
        let engine = SledEngine::open(dir.path()).unwrap();
        engine.write(&first).unwrap();
        let mut writer = engine.writer.lock();
        let split = Split::new(&second, &writer.committed_end);
        engine.insert_new(&mut writer, &split).unwrap();
        drop(writer);
        assert_eq!(keys(&engine).len(), 60);
        drop(engine);
        let engine = SledEngine::open(dir.path()).unwrap();
        assert_eq!(keys(&engine), (0..40).collect::<Vec<u8>>());
        assert_eq!(engine.get(Table::Meta, b"applied").unwrap().unwrap(), "1");
    }

    #[test]
    fn a_batch_that_committed_is_finished_by_the_next_open() {
        let (first, second) = batches();
        let dir = tempfile::tempdir().unwrap();
        let engine = SledEngine::open(dir.path()).unwrap();
        engine.write(&first).unwrap();
        let mut writer = engine.writer.lock();
        let split = Split::new(&second, &writer.committed_end);
        engine.insert_new(&mut writer, &split).unwrap();
        engine.commit(&mut writer, split).unwrap();
        drop(writer);
        drop(engine);
        let engine = SledEngine::open(dir.path()).unwrap();
        let expected: Vec<u8> = (0..10).chain(30..60).collect();
        assert_eq!(keys(&engine), expected);
        assert_eq!(engine.get(Table::Key, &[5]).unwrap().unwrap(), "changed");
        assert_eq!(engine.get(Table::Meta, b"applied").unwrap().unwrap(), "2");
        // A later open must not apply the redo list over newer rows.
        let mut third = WriteBatch::default();
        third.put(Table::Key, vec![5], "changed again");
        third.put(Table::Key, vec![12], "back");
        engine.write(&third).unwrap();
        drop(engine);
        let engine = SledEngine::open(dir.path()).unwrap();
        assert_eq!(
            engine.get(Table::Key, &[5]).unwrap().unwrap(),
            "changed again"
        );
        assert_eq!(engine.get(Table::Key, &[12]).unwrap().unwrap(), "back");
    }
}
