//! The storage engines that write to disk, behind `keelson_core::engine::Engine`.
//!
//! An engine is a copy that can be rebuilt: the log and the peers are authoritative, and the
//! state machine replays the log from the applied mark in each batch. An engine must write a
//! batch atomically, and durably before `write` returns.

pub mod generation;
mod lmdb;
mod pack;
mod sled;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use keelson_core::engine::{Engine, EngineError, MemoryEngine};

pub use lmdb::LmdbEngine;
pub use sled::SledEngine;

use crate::disk::{Disk, RealDisk};

/// The storage engine of a member's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// LMDB, the default; bbolt, etcd's engine, is a port of it.
    #[default]
    Lmdb,
    /// sled: slower, for builds without C code.
    Sled,
    /// No files: for tests and disposable clusters.
    Memory,
}

impl EngineKind {
    /// The kind of that name, as in `--storage-engine`.
    pub fn from_name(name: &str) -> Option<EngineKind> {
        match name {
            "lmdb" => Some(EngineKind::Lmdb),
            "sled" => Some(EngineKind::Sled),
            "memory" => Some(EngineKind::Memory),
            _ => None,
        }
    }

    /// The name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Lmdb => "lmdb",
            EngineKind::Sled => "sled",
            EngineKind::Memory => "memory",
        }
    }

    /// The file that identifies a directory of this kind.
    fn file(self) -> Option<&'static str> {
        match self {
            EngineKind::Lmdb => Some(lmdb::DATA_FILE),
            EngineKind::Sled => Some(sled::DATA_FILE),
            EngineKind::Memory => None,
        }
    }
}

/// Opens or creates the engine in `dir`. `map_bytes` is the maximum size of LMDB's file, at least
/// twice the quota; it reserves address space, not memory.
///
/// # Errors
/// A damaged or foreign directory, or the disk. The text contains the remedy.
pub fn open(kind: EngineKind, dir: &Path, map_bytes: u64) -> Result<Arc<dyn Engine>, EngineError> {
    refuse_other_kinds(kind, dir)?;
    Ok(match kind {
        EngineKind::Lmdb => Arc::new(LmdbEngine::open(dir, map_bytes)?),
        EngineKind::Sled => Arc::new(SledEngine::open(dir)?),
        EngineKind::Memory => Arc::new(MemoryEngine::new()),
    })
}

fn refuse_other_kinds(kind: EngineKind, dir: &Path) -> Result<(), EngineError> {
    for other in [EngineKind::Lmdb, EngineKind::Sled] {
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
