//! The database: the snapshot's, with other members and another place in the log, and without the
//! bucket of the v2 tree.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use keelson_bolt::Builder;
use keelson_core::state::RowKey;

use crate::disk::{Disk, DiskFile, RealDisk, RealFile};
use crate::snapshot::buckets::{self, Bucket};
use crate::snapshot::file::{FileError, Nowhere, Sink};
use crate::snapshot::input::{InputError, SnapshotFile};

/// Bytes that are written at a time.
const STEP_BYTES: usize = 1 << 20;

/// The end of a new file.
pub(super) struct FileSink {
    file: RealFile,
    at: u64,
}

impl FileSink {
    pub(super) fn create(path: &Path) -> Result<FileSink, FileError> {
        let file = RealDisk.create(path)?;
        Ok(FileSink { file, at: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes the last bytes, and makes all of it durable.
    pub(super) fn finish(mut self, rest: &[u8]) -> Result<(), FileError> {
        self.write(rest)?;
        Ok(self.file.sync_data()?)
    }
}

impl Sink for FileSink {
    fn drain(&mut self, builder: &mut Builder) -> Result<(), FileError> {
        while STEP_BYTES <= builder.waiting() {
            self.write(&builder.take(STEP_BYTES))?;
        }
        Ok(())
    }
}

/// Writes the database with these buckets in place of the snapshot's.
pub(super) fn write(
    file: &SnapshotFile,
    replaced: &BTreeMap<&'static str, Bucket>,
    path: &Path,
) -> Result<(), FileError> {
    let mut plan = Builder::plan();
    fill(file, replaced, &mut plan, &mut Nowhere)?;
    let mut builder = Builder::write(plan.finish()?.layout);
    let mut sink = FileSink::create(path)?;
    fill(file, replaced, &mut builder, &mut sink)?;
    sink.finish(&builder.finish()?.rest)
}

fn fill(
    file: &SnapshotFile,
    replaced: &BTreeMap<&'static str, Bucket>,
    builder: &mut Builder,
    sink: &mut dyn Sink,
) -> Result<(), FileError> {
    for (name, rows) in replaced {
        builder.bucket(name.as_bytes())?;
        rows.iter()
            .try_for_each(|(key, row)| builder.row(key, row))?;
    }
    let is_ours = |name: &[u8]| {
        let mut names = replaced.keys().map(|name| name.as_bytes());
        names.any(|of| of == name) || name == buckets::TREE.as_bytes()
    };
    let mut names = file.buckets()?;
    while let Some(bucket) = names.next().map_err(|error| file.bolt(error))? {
        if is_ours(&bucket.key) {
            continue;
        }
        builder.bucket(&bucket.key)?;
        let mut rows = file.open_bucket(&bucket)?;
        while let Some(row) = rows.next().map_err(|error| file.bolt(error))? {
            builder.row(&row.key, &row.value)?;
            sink.drain(builder)?;
        }
    }
    Ok(())
}

/// The newest revision of the rows; 1 without any.
pub(super) fn newest(file: &SnapshotFile) -> Result<i64, InputError> {
    let mut newest = 1;
    file.rows(buckets::KEY, |row: keelson_bolt::Row| {
        let name = RowKey::decode(&row.key);
        newest = name.map_or(newest, |name| newest.max(name.main));
        Ok::<_, InputError>(())
    })?;
    Ok(newest)
}

/// A row of the v2 tree without its number.
pub(super) fn tree_row(row: keelson_bolt::Row) -> Option<(Bytes, Bytes)> {
    (8 < row.key.len()).then(|| (row.key.slice(8..), row.value))
}
