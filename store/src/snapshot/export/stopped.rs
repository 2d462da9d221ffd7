//! The state of a stopped member, as a snapshot's file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_core::member::RecoveryFlags;
use keelson_core::node::NodeConfig;
use keelson_core::state::{Capture, Limits, StateError};
use keelson_core::{Committed, Index};

use super::ExportError;
use super::database::FileSink;
use crate::Config;
use crate::disk::RealDisk;
use crate::engine::StorageEngine;
use crate::engine::generation::CURRENT;
use crate::member::recover::{EngineOptions, Layout};
use crate::open_error::OpenError;
use crate::recovery::{self, Opening};
use crate::snapshot::file::{self, FileError};
use crate::wal::{Wal, WalConfig};

/// A snapshot of a stopped member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The number of entries beyond the durable commit index, which are left out: whether they are
    /// committed is undetermined. 0 in a cluster of one member.
    pub undecided: u64,
}

/// Writes the state of a stopped member to a new file, without a checksum behind it. As at a start,
/// its log is locked and gets the number of another start. Blocks the thread.
///
/// # Errors
/// Those of [`ExportError`].
pub fn of_stopped(
    data_dir: &Path,
    wal_dir: Option<&Path>,
    path: &Path,
) -> Result<Stopped, ExportError> {
    let config = Config {
        wal_dir: wal_dir.map(Path::to_path_buf),
        quota_bytes: u64::MAX,
        ..Config::single("stopped", data_dir)
    };
    let (capture, stopped) = capture(&config)?;
    let failed = |error| ExportError::File {
        path: path.to_owned(),
        error,
    };
    write(capture, path).map_err(failed)?;
    Ok(stopped)
}

fn write(capture: Capture, path: &Path) -> Result<(), FileError> {
    let layout = file::plan(&capture)?;
    let mut sink = FileSink::create(path)?;
    let rest = file::write(capture, layout, &mut sink)?;
    sink.finish(&rest)
}

fn capture(config: &Config) -> Result<(Capture, Stopped), ExportError> {
    let layout = Layout::of(config);
    let nothing = || ExportError::Nothing(config.data_dir.clone());
    let identity = Wal::<RealDisk>::identity(&RealDisk, &layout.wal).map_err(OpenError::from)?;
    let identity = identity.ok_or_else(nothing)?;
    if !layout.snap.join(CURRENT).exists() {
        return Err(nothing());
    }
    let disk = Arc::new(RealDisk);
    let opened = Wal::create_or_open(
        Arc::clone(&disk),
        &layout.wal,
        identity,
        WalConfig::default(),
    );
    let (mut wal, recovered) = opened.map_err(OpenError::from)?;
    let (entries, commit) = (recovered.entries.clone(), recovered.hard_state.commit);
    let opening = Opening {
        disk,
        dir: &layout.snap,
        genesis: None,
        flags: RecoveryFlags::default(),
        limits: Limits {
            quota_bytes: u64::MAX,
        },
        node: NodeConfig::new(identity.member, recovered.boot),
        open_engine: |dir: &Path| {
            let map_bytes = EngineOptions::of(config).map_bytes;
            crate::engine::open(StorageEngine::of_dir(dir), dir, map_bytes)
        },
    };
    let mut member = recovery::open(&mut wal, recovered, opening)
        .map_err(|error| OpenError::Engine(error.to_string()))?;
    let conf = member.state.applied().conf_state.unwrap_or_default();
    // What is in the log of a cluster's only voter is committed.
    let is_alone = conf.voters == [identity.member.0];
    let last = entries.last().map_or(commit, |entry| entry.index);
    let end = if is_alone { last } else { commit };
    let applied = member.state.applied().index;
    for entry in entries {
        if applied < entry.index.0 && entry.index <= end {
            // Members are not exported: a change of them is left out.
            let committed = Committed { entry, conf: None };
            let done = member.state.apply(&committed, false);
            done.map_err(|error| damaged(config, &error))?;
        }
    }
    if let Some(divergence) = member.state.divergence() {
        return Err(ExportError::Differs {
            dir: config.data_dir.clone(),
            index: divergence.index.0,
        });
    }
    let undecided = last.0.saturating_sub(end.max(Index(applied)).0);
    let capture = member.state.capture();
    let capture = capture.map_err(|error| damaged(config, &error))?;
    Ok((capture, Stopped { undecided }))
}

fn damaged(config: &Config, error: &StateError) -> ExportError {
    ExportError::Member(OpenError::DataDir {
        dir: PathBuf::from(&config.data_dir),
        why: error.to_string(),
    })
}
