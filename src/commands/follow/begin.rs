//! The data directory of a standby, made from a snapshot of its source.

use std::io;
use std::path::{Path, PathBuf};

use keelson_store::internals::disk::{self, Disk, RealDisk};
use keelson_store::snapshot::{self, InputError, RestoreError, SnapshotFile};
use keelson_store::{Config, OpenError, Store};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tonic::Status;
use tracing::info;

use super::FollowPlan;
use super::source::SourceMember;
use crate::commands::export::{self, ExportCommandError};
use crate::flags::Values;
use crate::options::{self, HostOptions};

/// The file that names the source.
const MARKER: &str = "standby.json";
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

/// Makes the data directory unless there is one. Returns what it follows; `None` if that is not
/// known.
pub(super) fn begin(
    options: &HostOptions,
    plan: &FollowPlan,
) -> Result<Option<Marker>, BeginError> {
    let config = match &options.member {
        Ok(member) => &member.config,
        Err(fault) => return Err(BeginError::Options(fault.to_string())),
    };
    if Store::is_there(config)? {
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

pub(super) async fn make(
    config: &Config,
    plan: &FollowPlan,
    part: &Path,
) -> Result<Marker, BeginError> {
    let mut last = Status::unavailable("--from names none");
    for url in &plan.urls {
        let source = match SourceMember::connect(&plan.access, url).await {
            Ok(source) => source,
            Err(status) => {
                last = status;
                continue;
            }
        };
        // Before the snapshot: a change between the two is found by the first comparison.
        let auth_revision = source.auth_revision().await.map_err(BeginError::Source)?;
        info!(url, "taking a snapshot of the source");
        export::download(&plan.access, url, part).await?;
        let file = SnapshotFile::open(part)?;
        file.check_sum()?;
        let term = source.status.raft_term.saturating_add(TERM_MARGIN);
        let restored = snapshot::restore_standby(&file, config, term)?;
        info!(
            revision = restored.revision,
            "the snapshot of the source is restored"
        );
        let marker = Marker {
            cluster: source.cluster(),
            auth_revision,
        };
        write(&config.data_dir, &marker)?;
        return Ok(marker);
    }
    Err(BeginError::Source(last))
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
pub(super) fn clear(data_dir: &Path, values: &Values) -> Result<(), BeginError> {
    let member = data_dir.join("member");
    let wal = options::wal_dir(values);
    let mut gone = vec![member.clone()];
    for dir in wal.iter() {
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
