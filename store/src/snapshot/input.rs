//! A snapshot that is read: a database file of etcd, with or without the checksum behind it.

use std::io;
use std::path::{Path, PathBuf};

use keelson_bolt::{Cursor, Database, Source};
use sha2::{Digest, Sha256};

use crate::disk::ReadOnlyFile;

/// The bytes of the checksum behind the file.
const SUM_BYTES: u64 = 32;
/// Sizes of databases are multiples of this; etcd's tools recognise a checksum by what is left.
const BLOCK_BYTES: u64 = 512;
/// Bytes that are read at a time for the checksum.
const STEP_BYTES: u64 = 1 << 20;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// It is not a database, or is damaged.
    #[error("{}: {error}", path.display())]
    Bolt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: keelson_bolt::Error,
    },
    /// etcd's text.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoSum,
    /// etcd's text.
    #[error("expected sha256 {expected:?}, got {found:?}")]
    OtherSum {
        /// What the snapshot states.
        expected: Vec<u8>,
        /// What its bytes have.
        found: Vec<u8>,
    },
    /// A row that etcd does not write.
    #[error("{}: bucket {bucket}: {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The bucket.
        bucket: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl Source for ReadOnlyFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(offset, bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.size_bytes()
    }
}

/// An open snapshot.
pub struct SnapshotFile {
    path: PathBuf,
    database: Database<ReadOnlyFile>,
    bytes: u64,
}

impl SnapshotFile {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// It cannot be read, or is no database.
    pub fn open(path: &Path) -> Result<SnapshotFile, InputError> {
        SnapshotFile::open_with(path, |_| Ok(()))
    }

    /// Opens the database of a server, which must have been stopped: it is locked for readers.
    ///
    /// # Errors
    /// As [`SnapshotFile::open`]; [`InputError::Io`] of [`io::ErrorKind::WouldBlock`] while a
    /// server has it open.
    pub(crate) fn open_stopped(path: &Path) -> Result<SnapshotFile, InputError> {
        SnapshotFile::open_with(path, ReadOnlyFile::try_lock_shared)
    }

    fn open_with(
        path: &Path,
        lock: impl Fn(&ReadOnlyFile) -> io::Result<()>,
    ) -> Result<SnapshotFile, InputError> {
        let failed = |error| InputError::Io {
            path: path.to_owned(),
            error,
        };
        let file = ReadOnlyFile::open(path).map_err(failed)?;
        lock(&file).map_err(failed)?;
        let bytes = file.size_bytes().map_err(failed)?;
        let database = Database::open(file).map_err(|error| InputError::Bolt {
            path: path.to_owned(),
            error,
        })?;
        Ok(SnapshotFile {
            path: path.to_owned(),
            database,
            bytes,
        })
    }

    /// The size of the database in it, in bytes.
    pub fn bytes(&self) -> u64 {
        self.database.bytes()
    }

    /// Checks the checksum behind the database.
    ///
    /// # Errors
    /// [`InputError::NoSum`], [`InputError::OtherSum`], [`InputError::Io`].
    pub fn check_sum(&self) -> Result<(), InputError> {
        let end = self.bytes.saturating_sub(SUM_BYTES);
        if self.bytes % BLOCK_BYTES != SUM_BYTES {
            return Err(InputError::NoSum);
        }
        let mut sum = Sha256::new();
        let mut bytes = vec![0; STEP_BYTES as usize];
        let mut offset = 0;
        while offset < end {
            let part = &mut bytes[..STEP_BYTES.min(end - offset) as usize];
            self.read_at(offset, part)?;
            sum.update(&*part);
            offset += part.len() as u64;
        }
        let mut expected = vec![0; SUM_BYTES as usize];
        self.read_at(end, &mut expected)?;
        let found = sum.finalize().to_vec();
        match expected == found {
            true => Ok(()),
            false => Err(InputError::OtherSum { expected, found }),
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), InputError> {
        let read = self.database.source().read_at(offset, bytes);
        read.map_err(|error| InputError::Io {
            path: self.path.clone(),
            error,
        })
    }

    /// Calls `visit` for every row of a bucket, in the order of the keys. A bucket that is missing
    /// has none.
    ///
    /// # Errors
    /// Those of the file, and of `visit`.
    pub(crate) fn rows<E: From<InputError>>(
        &self,
        bucket: &'static str,
        mut visit: impl FnMut(keelson_bolt::Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let found = self.database.bucket(bucket.as_bytes());
        let Some(mut rows) = found.map_err(|error| self.bolt(error))? else {
            return Ok(());
        };
        while let Some(row) = rows.next().map_err(|error| self.bolt(error))? {
            visit(row)?;
        }
        Ok(())
    }

    /// The value of a row; `None` if there is none.
    pub(super) fn row(
        &self,
        bucket: &'static str,
        key: &[u8],
    ) -> Result<Option<bytes::Bytes>, InputError> {
        let mut found = None;
        self.rows(bucket, |row| {
            if row.key == key {
                found = Some(row.value);
            }
            Ok::<_, InputError>(())
        })?;
        Ok(found)
    }

    /// The buckets, by name.
    pub(super) fn buckets(&self) -> Result<Cursor<'_, ReadOnlyFile>, InputError> {
        self.database.buckets().map_err(|error| self.bolt(error))
    }

    /// The rows of a bucket of [`SnapshotFile::buckets`].
    pub(super) fn open_bucket(
        &self,
        row: &keelson_bolt::Row,
    ) -> Result<Cursor<'_, ReadOnlyFile>, InputError> {
        let opened = self.database.open_bucket(&row.value);
        opened.map_err(|error| self.bolt(error))
    }

    /// The error for a damaged page.
    pub(super) fn bolt(&self, error: keelson_bolt::Error) -> InputError {
        InputError::Bolt {
            path: self.path.clone(),
            error,
        }
    }

    /// The error for a row that etcd does not write.
    pub(crate) fn wrong(&self, bucket: &'static str, what: impl std::fmt::Display) -> InputError {
        InputError::Row {
            path: self.path.clone(),
            bucket,
            what: what.to_string(),
        }
    }
}
