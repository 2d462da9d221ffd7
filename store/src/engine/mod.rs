//! The storage engines that write to disk, behind `keelson_core::engine::Engine`.
//!
//! An engine is a rebuildable copy: the log and the peers are the authority, and the state machine
//! replays from the applied mark that each batch carries. What an engine must keep is that a batch
//! is there whole or not at all, and durable once `write` returned.

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

/// Which engine keeps a member's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// LMDB: the default; bbolt, etcd's engine, is a port of it.
    #[default]
    Lmdb,
    /// sled: slower, for a build without any C.
    Sled,
    /// Nothing on disk: for tests and throw-away clusters.
    Memory,
}

impl EngineKind {
    /// The kind of that name, as `--storage-engine` takes it.
    pub fn from_name(name: &str) -> Option<EngineKind> {
        match name {
            "lmdb" => Some(EngineKind::Lmdb),
            "sled" => Some(EngineKind::Sled),
            "memory" => Some(EngineKind::Memory),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Lmdb => "lmdb",
            EngineKind::Sled => "sled",
            EngineKind::Memory => "memory",
        }
    }

    /// The file that shows which engine a directory belongs to.
    fn file(self) -> Option<&'static str> {
        match self {
            EngineKind::Lmdb => Some(lmdb::DATA_FILE),
            EngineKind::Sled => Some(sled::DATA_FILE),
            EngineKind::Memory => None,
        }
    }
}

/// Opens the engine in `dir`, or begins one. `map_bytes` is how large LMDB's file may grow: twice
/// the quota at least; address space is reserved, not memory.
///
/// # Errors
/// A damaged or foreign directory, or the disk. The text says what to do.
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
