//! Defragmentation of a stopped member's data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DefragError, as_movable, relocate};
use crate::Config;
use crate::disk::RealDisk;
use crate::disk::available_bytes;
use crate::engine::generation::{CURRENT, Generations};
use crate::engine::{self, StorageEngine};
use crate::member::foreign;
use crate::member::recover::{EngineOptions, Layout};
use crate::open_error::OpenError;
use crate::wal::{Wal, WalError};

/// Why a directory was not defragmented. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StoppedDefragError {
    /// A member runs on it.
    #[error("{} is in use: stop the member first, or call `etcdctl defrag`", .0.display())]
    InUse(PathBuf),
    /// It has no database.
    #[error("{} has no database of a member of Keelson", .0.display())]
    Nothing(PathBuf),
    /// It is an etcd's.
    #[error(transparent)]
    Etcds(#[from] OpenError),
    /// Its log cannot be locked.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The disk, or the database.
    #[error("{0}")]
    Failed(String),
}

/// Returns the room of deleted rows to the disk. Returns the sizes of the database before and
/// after, in bytes; `None` for an engine that does so by itself. Blocks the thread.
///
/// # Errors
/// A member runs on the directory, or it holds none; the disk.
pub fn defragment_stopped(
    data_dir: &Path,
    wal_dir: Option<&Path>,
) -> Result<Option<(u64, u64)>, StoppedDefragError> {
    let config = Config {
        wal_dir: wal_dir.map(Path::to_path_buf),
        quota_bytes: u64::MAX,
        ..Config::single("stopped", data_dir)
    };
    foreign::refuse_etcds(&config)?;
    let layout = Layout::of(&config);
    if !layout.snap.join(CURRENT).exists() || !layout.wal.is_dir() {
        return Err(StoppedDefragError::Nothing(data_dir.to_owned()));
    }
    let _locked = match Wal::lock(&RealDisk, &layout.wal) {
        Err(WalError::Locked { .. }) => {
            return Err(StoppedDefragError::InUse(data_dir.to_owned()));
        }
        locked => locked?,
    };
    relocate_in(&layout.snap, &config)
        .map_err(|error| StoppedDefragError::Failed(error.to_string()))
}

fn relocate_in(snap: &Path, config: &Config) -> Result<Option<(u64, u64)>, DefragError> {
    let generations = Generations::open(Arc::new(RealDisk), snap)?;
    let Some(current) = generations.current() else {
        return Ok(None);
    };
    let options = EngineOptions {
        kind: StorageEngine::of_dir(&current),
        ..EngineOptions::of(config)
    };
    let engine = engine::open(options.kind, &current, options.map_bytes)?;
    let Some(movable) = as_movable(&*engine) else {
        return Ok(None);
    };
    let before = engine.size().total_bytes;
    let generations = Mutex::new(generations);
    relocate(movable, &generations, options, available_bytes, || false)?;
    Ok(Some((before, engine.size().total_bytes)))
}
