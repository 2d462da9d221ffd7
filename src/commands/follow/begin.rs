//! The data directory of a standby, made from a snapshot of its source.

use std::io;
use std::path::{Path, PathBuf};

use keelson_store::internals::disk::{self, Disk, RealDisk};
use keelson_store::snapshot::{self, InputError, RestoreError, SnapshotFile};
use keelson_store::{Config, OpenError, Store};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tonic::Status;
use tracing::{info, warn};

use super::FollowPlan;
use super::source::SourceMember;
use crate::commands::export::{self, ExportCommandError};
use crate::options::HostOptions;

/// The file that names the source.
const MARKER: &str = "standby.json";
/// The file that is there while the standby is not whole.
const UNFINISHED: &str = "standby.unfinished";
/// The end of the name of the snapshot, beside the data directory, while it is needed.
const PART: &str = ".follow.part";
/// Added to the source's term. Terms are in the headers of answers, and clients such as Patroni
/// refuse lower ones; the source may have elections until the cut-over.
const TERM_MARGIN: u64 = 1 << 20;

/// What a standby follows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Marker {
    /// The cluster's id.
    pub(super) cluster: u64,
    /// The revision of its users and roles in the snapshot; `None` of an etcd before 3.5.
    pub(super) auth_revision: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    #[error("{0}")]
    Options(String),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error(
        "--initial-cluster names several members: a standby begins with one, and gets others by \
         MemberAdd once it is open"
    )]
    Founders,
    #[error("no member of the source answers: {}", .0.message())]
    Source(Status),
    #[error("the snapshot of the source: {0}")]
    Download(#[from] ExportCommandError),
    #[error("the snapshot of the source: {0}")]
    Input(#[from] InputError),
    #[error("{0}")]
    Restore(#[from] RestoreError),
    #[error("cannot use {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("cannot start threads: {0}")]
    Runtime(io::Error),
}

/// Makes the data directory unless there is one, or `anew`. Returns what it follows; `None` if that
/// is not known.
pub(super) fn begin(
    options: &HostOptions,
    plan: &FollowPlan,
    anew: bool,
) -> Result<Option<Marker>, BeginError> {
    let config = match &options.member {
        Ok(member) => &member.config,
        Err(fault) => return Err(BeginError::Options(fault.to_string())),
    };
    if config.initial_cluster.len() > 1 {
        return Err(BeginError::Founders);
    }
    if !anew && !is_unfinished(config) && Store::is_there(config)? {
        return read(&config.data_dir);
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BeginError::Runtime)?;
    let mut part = config.data_dir.clone().into_os_string();
    part.push(PART);
    let part = PathBuf::from(part);
    let made = runtime.block_on(make(config, plan, &part));
    let _ = RealDisk.remove(&part);
    made.map(Some)
}

/// Makes the data directory from a new snapshot. A former standby is there until that has arrived.
pub(super) async fn make(
    config: &Config,
    plan: &FollowPlan,
    part: &Path,
) -> Result<Marker, BeginError> {
    let mut last = BeginError::Source(Status::unavailable("--from names none"));
    for url in &plan.urls {
        match fetch(plan, url, part).await {
            Ok((file, source, marker)) => {
                restore(config, &file, &source, &marker)?;
                return Ok(marker);
            }
            Err(error) => {
                warn!(url, %error, "no snapshot of the source; trying the next member");
                last = error;
            }
        }
    }
    Err(last)
}

async fn fetch(
    plan: &FollowPlan,
    url: &str,
    part: &Path,
) -> Result<(SnapshotFile, SourceMember, Marker), BeginError> {
    let source = SourceMember::connect(&plan.access, url).await;
    let source = source.map_err(BeginError::Source)?;
    // Before the snapshot: a change between the two is found by the first comparison.
    let auth_revision = source.auth_revision().await.map_err(BeginError::Source)?;
    info!(url, "taking a snapshot of the source");
    export::download(&plan.access, url, part).await?;
    let file = SnapshotFile::open(part)?;
    file.check_sum()?;
    let marker = Marker {
        cluster: source.cluster(),
        auth_revision,
    };
    Ok((file, source, marker))
}

/// Replaces what is in the data directory. Until it is whole, a file states that it is not.
fn restore(
    config: &Config,
    file: &SnapshotFile,
    source: &SourceMember,
    marker: &Marker,
) -> Result<(), BeginError> {
    let path = config.data_dir.join(UNFINISHED);
    let failed = |error| BeginError::Io {
        path: path.clone(),
        error,
    };
    // It refuses an etcd's.
    let is_there = Store::is_there(config)?;
    let replaces = is_there || is_unfinished(config);
    if !replaces {
        // What is not a standby of this command must not be removed at its next start.
        snapshot::check_unused(config)?;
    }
    disk::create_dir_durably(&RealDisk, &config.data_dir).map_err(failed)?;
    disk::replace_file(&RealDisk, &path, &[]).map_err(failed)?;
    if replaces {
        clear(config)?;
    }
    let term = source.status.raft_term.saturating_add(TERM_MARGIN);
    let restored = snapshot::restore_standby(file, config, term)?;
    info!(
        revision = restored.revision,
        "the snapshot of the source is restored"
    );
    write(&config.data_dir, marker)?;
    disk::remove_file(&RealDisk, &path).map_err(failed)
}

fn is_unfinished(config: &Config) -> bool {
    let path = config.data_dir.join(UNFINISHED);
    RealDisk.exists(&path).unwrap_or_default()
}

fn write(data_dir: &Path, marker: &Marker) -> Result<(), BeginError> {
    let path = data_dir.join(MARKER);
    let written = serde_json::to_vec(marker).map_err(io::Error::other);
    let written = written.and_then(|bytes| disk::replace_file(&RealDisk, &path, &bytes));
    written.map_err(|error| BeginError::Io { path, error })
}

pub(super) fn read(data_dir: &Path) -> Result<Option<Marker>, BeginError> {
    let path = data_dir.join(MARKER);
    let bytes = disk::read_file(&RealDisk, &path);
    let bytes = bytes.map_err(|error| BeginError::Io { path, error })?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Removes the standby, which is stopped, from its directories.
fn clear(config: &Config) -> Result<(), BeginError> {
    let mut gone = vec![config.data_dir.join("member")];
    for dir in config.wal_dir.iter() {
        let names = RealDisk.list(dir);
        let names = names.map_err(|error| BeginError::Io {
            path: dir.clone(),
            error,
        })?;
        gone.extend(names.into_iter().map(|name| dir.join(name)));
    }
    for path in gone {
        let removed = match path.is_dir() {
            true => RealDisk.remove_dir_all(&path),
            false => disk::remove_file(&RealDisk, &path),
        };
        removed.map_err(|error| BeginError::Io { path, error })?;
    }
    Ok(())
}
