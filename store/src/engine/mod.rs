//! The storage engines that write to disk, behind `keelson_core::engine::Engine`.
//!
//! An engine is a copy that can be rebuilt: the log and the peers are authoritative, and the
//! state machine replays the log from the applied mark in each batch. An engine must write a
//! batch atomically, and durably before `write` returns.

pub mod generation;
#[cfg(feature = "lmdb")]
mod lmdb;
mod movable;
#[cfg(any(feature = "lmdb", feature = "sled"))]
mod pack;
#[cfg(feature = "sled")]
mod sled;

#[cfg(test)]
#[cfg(all(feature = "lmdb", feature = "sled"))]
mod tests;

use std::path::Path;
use std::sync::Arc;

use keelson_core::engine::{Engine, EngineError, MemoryEngine};

#[cfg(feature = "lmdb")]
pub use lmdb::LmdbEngine;
#[cfg(feature = "sled")]
pub use sled::SledEngine;

pub use movable::MovableEngine;

use crate::disk::{Disk, RealDisk};

/// The file with all data of LMDB.
const LMDB_FILE: &str = "data.mdb";
/// The file that identifies a directory of sled.
const SLED_FILE: &str = "db";

/// The storage engine that keeps a member's state on disk. LMDB and sled are features of the
/// crate, both on by default; a build without one of them refuses its directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageEngine {
    /// LMDB: fast, small, and written in C; bbolt, etcd's engine, is a port of it.
    Lmdb,
    /// sled: slower, and pure Rust.
    Sled,
    /// No engine files; only the log is on disk. For tests and disposable clusters.
    Memory,
}

impl StorageEngine {
    /// The default of `--storage-engine`: LMDB, or the fastest that the build contains.
    pub const DEFAULT: StorageEngine = match (cfg!(feature = "lmdb"), cfg!(feature = "sled")) {
        (true, _) => StorageEngine::Lmdb,
        (false, true) => StorageEngine::Sled,
        (false, false) => StorageEngine::Memory,
    };

    /// The names of the engines that the build contains.
    pub const COMPILED: &'static [&'static str] =
        match (cfg!(feature = "lmdb"), cfg!(feature = "sled")) {
            (true, true) => &["lmdb", "sled", "memory"],
            (true, false) => &["lmdb", "memory"],
            (false, true) => &["sled", "memory"],
            (false, false) => &["memory"],
        };

    /// The engine of that name, as in `--storage-engine`.
    pub fn from_name(name: &str) -> Option<StorageEngine> {
        match name {
            "lmdb" => Some(StorageEngine::Lmdb),
            "sled" => Some(StorageEngine::Sled),
            "memory" => Some(StorageEngine::Memory),
            _ => None,
        }
    }

    /// The name of the engine.
    pub const fn name(self) -> &'static str {
        match self {
            StorageEngine::Lmdb => "lmdb",
            StorageEngine::Sled => "sled",
            StorageEngine::Memory => "memory",
        }
    }

    /// The engine that wrote a directory.
    pub(crate) fn of_dir(dir: &Path) -> StorageEngine {
        let has = |engine: &StorageEngine| {
            let path = engine.file().map(|name| dir.join(name));
            path.is_some_and(|path| RealDisk.exists(&path).unwrap_or_default())
        };
        let written = [StorageEngine::Lmdb, StorageEngine::Sled];
        let written = written.into_iter().find(has);
        written.unwrap_or(StorageEngine::Memory)
    }

    /// The file that identifies a directory of this engine.
    fn file(self) -> Option<&'static str> {
        match self {
            StorageEngine::Lmdb => Some(LMDB_FILE),
            StorageEngine::Sled => Some(SLED_FILE),
            StorageEngine::Memory => None,
        }
    }
}

/// Opens or creates the engine in `dir`. `map_bytes` is the maximum size of LMDB's file, at least
/// twice the quota; it reserves address space, not memory.
///
/// # Errors
/// A damaged or foreign directory, the disk, or an engine that the build does not contain. The
/// text contains the remedy.
pub fn open(
    engine: StorageEngine,
    dir: &Path,
    map_bytes: u64,
) -> Result<Arc<dyn Engine>, EngineError> {
    let opened = open_unmovable(engine, dir, map_bytes)?;
    Ok(match engine {
        StorageEngine::Lmdb => Arc::new(MovableEngine::new(opened, dir.to_path_buf())),
        StorageEngine::Sled | StorageEngine::Memory => opened,
    })
}

/// [`open`] without the possibility to move the engine.
pub(crate) fn open_unmovable(
    engine: StorageEngine,
    dir: &Path,
    map_bytes: u64,
) -> Result<Arc<dyn Engine>, EngineError> {
    refuse_other_kinds(engine, dir)?;
    match engine {
        #[cfg(feature = "lmdb")]
        StorageEngine::Lmdb => Ok(Arc::new(LmdbEngine::open(dir, map_bytes)?)),
        #[cfg(feature = "sled")]
        StorageEngine::Sled => Ok(Arc::new(SledEngine::open(dir)?)),
        StorageEngine::Memory => Ok(Arc::new(MemoryEngine::new())),
        #[cfg(not(all(feature = "lmdb", feature = "sled")))]
        absent => {
            let (name, _) = (absent.name(), map_bytes);
            Err(EngineError(format!(
                "this build does not contain the engine {name}: build it with --features {name}"
            )))
        }
    }
}

/// Opens LMDB's file in `dir`, without LMDB and without any change.
///
/// # Errors
/// It cannot be read, or has no tables.
#[cfg(feature = "lmdb")]
pub(crate) fn read_lmdb(dir: &Path) -> Result<lmdb::ReadOnlyLmdb, EngineError> {
    lmdb::ReadOnlyLmdb::open(&dir.join(LMDB_FILE))
}

fn refuse_other_kinds(kind: StorageEngine, dir: &Path) -> Result<(), EngineError> {
    for other in [StorageEngine::Lmdb, StorageEngine::Sled] {
        let Some(file) = other.file().filter(|_| other != kind) else {
            continue;
        };
        if RealDisk.exists(&dir.join(file)).unwrap_or(false) {
            let (name, other) = (kind.name(), other.name());
            return Err(EngineError(format!(
                "{} was written by engine {other}, not {name}: start with \
                 --storage-engine={other}, or remove this member from the cluster and add it \
                 again with an empty data directory to change engines",
                dir.display()
            )));
        }
    }
    Ok(())
}
