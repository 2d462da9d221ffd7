//! LMDB through `heed`: one environment a directory, one database a table.
//!
//! Every write is one transaction with a full sync. Every read is a short read transaction, which
//! neither waits for the writer nor blocks it. Two limits of LMDB: the size of its map is fixed
//! while it is open, and a long read transaction keeps freed pages.
//!
//! LMDB's keys have at most 511 bytes. Longer ones (a v2 path may be longer) share a row under
//! their first [`LONG_KEY_BYTES`] bytes, packed with the rest of the key, in key order.

mod errors;
mod file;
mod read_only;
mod walk;

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ::heed::types::Bytes as Raw;
use ::heed::{Database, Env, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithoutTls};
use bytes::Bytes;
use keelson_core::engine::{Change, Engine, EngineError, EngineSize, GetRow, Table, WriteBatch};

use errors::{WriteError, explain};

use super::{LMDB_FILE, pack};
use crate::disk::{self, RealDisk};

pub(crate) use read_only::ReadOnlyLmdb;

const LOCK_FILE: &str = "lock.mdb";

/// Keys of at least this length, in bytes, share a row under their prefix of this length.
const LONG_KEY_BYTES: usize = 500;
/// The minimum size of the map, in bytes: address space costs nothing.
const MAP_BYTES_MIN: u64 = 4 << 30;
/// The slots for concurrent read transactions.
const READERS_MAX: u32 = 1024;

/// A storage engine on LMDB.
pub struct LmdbEngine {
    env: Env<WithoutTls>,
    tables: Vec<Rows>,
    page_bytes: u64,
    total_bytes: AtomicU64,
    in_use_bytes: AtomicU64,
}

type Rows = Database<Raw, Raw>;

impl LmdbEngine {
    /// Opens or creates the environment in `dir`. It can grow to `map_bytes`.
    ///
    /// # Errors
    /// A file with a damaged meta page or a wrong length, or the system's.
    pub fn open(dir: &Path, map_bytes: u64) -> Result<LmdbEngine, EngineError> {
        LmdbEngine::open_with_map(dir, map_bytes.max(MAP_BYTES_MIN))
    }

    /// As [`LmdbEngine::open`], for tests that reach the end of the map.
    pub(super) fn open_with_map(dir: &Path, map_bytes: u64) -> Result<LmdbEngine, EngineError> {
        let fail =
            |error: io::Error| EngineError(format!("cannot open {}: {error}", dir.display()));
        disk::create_dir_durably(&RealDisk, dir).map_err(fail)?;
        disk::refuse_link(&dir.join(LOCK_FILE)).map_err(fail)?;
        file::check(&dir.join(LMDB_FILE))?;
        let map_bytes = map_bytes.next_multiple_of(1 << 20);
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(usize::try_from(map_bytes).unwrap_or(usize::MAX));
        options.max_readers(READERS_MAX);
        options.max_dbs(Table::ALL.len().try_into().expect("a handful of tables"));
        let env = open_env(&options, dir).map_err(|error| explain(&error))?;
        let tables = create_tables(&env).map_err(|error| explain(&error))?;
        disk::Disk::sync_dir(&RealDisk, dir).map_err(fail)?;
        let engine = LmdbEngine {
            page_bytes: u64::from(env.stat().page_size),
            env,
            tables,
            total_bytes: AtomicU64::new(0),
            in_use_bytes: AtomicU64::new(0),
        };
        engine.measure().map_err(|error| explain(&error))?;
        Ok(engine)
    }

    fn table(&self, table: Table) -> Rows {
        self.tables[usize::from(table as u8)]
    }

    fn get_in(
        &self,
        txn: &RoTxn<'_, WithoutTls>,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Bytes>, EngineError> {
        let (row_key, rest) = split(key);
        let row = self.table(table).get(txn, row_key);
        let Some(row) = row.map_err(|error| explain(&error))? else {
            return Ok(None);
        };
        let Some(rest) = rest else {
            return Ok(Some(Bytes::copy_from_slice(row)));
        };
        let rows = pack::rows(row)?;
        let found = rows.iter().find(|(known, _)| *known == rest);
        Ok(found.map(|(_, value)| Bytes::copy_from_slice(value)))
    }

    /// Updates the recorded size after a write, so that reading it is cheap.
    fn measure(&self) -> ::heed::Result<()> {
        let txn = self.env.read_txn()?;
        let mut pages = 0;
        for rows in &self.tables {
            let stat = rows.stat(&txn)?;
            pages += stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
        }
        let total = (self.env.info().last_page_number as u64 + 1) * self.page_bytes;
        let in_use = pages as u64 * self.page_bytes;
        self.total_bytes.store(total, Ordering::Relaxed);
        self.in_use_bytes.store(in_use, Ordering::Relaxed);
        Ok(())
    }

    fn write_all(&self, batch: &WriteBatch) -> Result<(), WriteError> {
        let mut txn = self.env.write_txn()?;
        let mut writer: Option<TableWriter> = None;
        for ((table, key), change) in &batch.changes {
            let known = writer.take().filter(|writer| writer.table == *table);
            let mut now = match known {
                Some(writer) => writer,
                None => TableWriter::new(&txn, *table, self.table(*table))?,
            };
            now.change(&mut txn, key, change)?;
            writer = Some(now);
        }
        // Committed on the thread that began it: LMDB's writer lock belongs to a thread.
        Ok(txn.commit()?)
    }
}

impl Engine for LmdbEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let txn = self.env.read_txn().map_err(|error| explain(&error))?;
        self.get_in(&txn, table, key)
    }

    /// In one transaction: each locks the list of readers.
    fn get_many(&self, read: &mut dyn FnMut(&GetRow<'_>)) -> Result<(), EngineError> {
        let txn = self.env.read_txn().map_err(|error| explain(&error))?;
        read(&|table, key| self.get_in(&txn, table, key));
        Ok(())
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        if is_empty(from, to) {
            return Ok(());
        }
        let txn = self.env.read_txn().map_err(|error| explain(&error))?;
        let bounds = (row_bound(from), row_bound(to));
        let rows = self.table(table).range(&txn, &bounds);
        for row in rows.map_err(|error| explain(&error))? {
            let (key, value) = row.map_err(|error| explain(&error))?;
            let more = match key.len() < LONG_KEY_BYTES {
                true => visit(key, value),
                false => visit_long(key, value, (from, to), visit)?,
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let written = self.write_all(batch);
        written.map_err(|error| error.explain(|| disk::available_bytes(self.env.path())))?;
        self.measure().map_err(|error| explain(&error))
    }

    fn size(&self) -> EngineSize {
        EngineSize {
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            in_use_bytes: self.in_use_bytes.load(Ordering::Relaxed),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "LMDB maps its file; that directory is this member's alone"
)]
fn open_env(options: &EnvOpenOptions<WithoutTls>, dir: &Path) -> ::heed::Result<Env<WithoutTls>> {
    let opened = disk::wait_for_descriptors(dir, || {
        // SAFETY: only this engine changes the file, since the member's log holds the lock of its
        // data directory. `file::check` has verified that every page of the trees is inside the
        // file.
        match unsafe { options.open(dir) } {
            Err(::heed::Error::Io(error)) if disk::is_out_of_descriptors(&error) => Err(error),
            opened => Ok(opened),
        }
    });
    opened.map_err(::heed::Error::Io)?
}

fn create_tables(env: &Env<WithoutTls>) -> ::heed::Result<Vec<Rows>> {
    let mut txn = env.write_txn()?;
    let tables = Table::ALL.iter().map(|table| {
        let name = (*table as u8).to_string();
        env.create_database(&mut txn, Some(&name))
    });
    let tables = tables.collect::<::heed::Result<Vec<Rows>>>()?;
    txn.commit()?;
    Ok(tables)
}

/// Writes rows in ascending order to one table.
struct TableWriter {
    table: Table,
    rows: Rows,
    /// The table's last key, or an earlier one: rows after it are appended, which fills pages.
    last: Vec<u8>,
}

impl TableWriter {
    fn new(txn: &RwTxn<'_>, table: Table, rows: Rows) -> Result<TableWriter, WriteError> {
        let last = rows.last(txn)?;
        let last = last.map(|(key, _)| key.to_vec()).unwrap_or_default();
        Ok(TableWriter { table, rows, last })
    }

    fn change(
        &mut self,
        txn: &mut RwTxn<'_>,
        key: &Bytes,
        change: &Change,
    ) -> Result<(), WriteError> {
        let (row_key, rest) = split(key);
        let value = match change {
            Change::Put(value) => Some(&value[..]),
            Change::Delete => None,
        };
        match (rest, value) {
            (None, Some(value)) => self.put(txn, row_key, value),
            (None, None) => self.delete(txn, row_key),
            (Some(rest), value) => {
                let row = self.rows.get(txn, row_key)?;
                let row = pack::with_change(row.unwrap_or_default(), rest, value)?;
                match row.is_empty() {
                    true => self.delete(txn, row_key),
                    false => self.put(txn, row_key, &row),
                }
            }
        }
    }

    fn put(&mut self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let put = if self.last[..] < *key {
            self.last.clear();
            self.last.extend_from_slice(key);
            self.rows.put_with_flags(txn, PutFlags::APPEND, key, value)
        } else {
            self.rows.put(txn, key, value)
        };
        Ok(put?)
    }

    fn delete(&self, txn: &mut RwTxn<'_>, key: &[u8]) -> Result<(), WriteError> {
        self.rows.delete(txn, key)?;
        Ok(())
    }
}

/// The key of the row that holds a key, and the rest of the key that is packed inside.
fn split(key: &[u8]) -> (&[u8], Option<&[u8]>) {
    match key.split_at_checked(LONG_KEY_BYTES) {
        Some((row_key, rest)) => (row_key, Some(rest)),
        None => (key, None),
    }
}

fn row_bound(bound: Bound<&[u8]>) -> Bound<&[u8]> {
    match bound {
        // LMDB has no empty key.
        Bound::Included([]) | Bound::Excluded([]) => Bound::Unbounded,
        Bound::Included(key) | Bound::Excluded(key) if LONG_KEY_BYTES <= key.len() => {
            Bound::Included(split(key).0)
        }
        short => short,
    }
}

/// Whether no key can be between the bounds; LMDB's cursors do not accept all of them.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (_, Bound::Excluded([])) | (_, Bound::Included([])) => true,
        (Bound::Included(from), Bound::Included(to)) => to < from,
        (Bound::Included(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to))
        | (Bound::Excluded(from), Bound::Excluded(to)) => to <= from,
        _ => false,
    }
}

/// Visits the rows that are packed under a prefix of their keys.
fn visit_long(
    row_key: &[u8],
    packed: &[u8],
    bounds: (Bound<&[u8]>, Bound<&[u8]>),
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<bool, EngineError> {
    for (rest, value) in pack::rows(packed)? {
        let key = [row_key, rest].concat();
        let inside = std::ops::RangeBounds::<[u8]>::contains(&bounds, &key[..]);
        if inside && !visit(&key, value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks at compile time that read transactions may be dropped on another thread.
const _: fn(RoTxn<'static, WithoutTls>) = |txn| drop(std::thread::spawn(move || drop(txn)));
