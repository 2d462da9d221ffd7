//! The way back to etcd: a data directory on which etcd 3.4 and later start.
//!
//! It has what `etcdutl snapshot restore` makes of a snapshot: the database, a snapshot of the v2
//! store and a log, both at the database's place in Raft's log. That command would begin the v2
//! store and the place anew; here v2 keys, their indices and the indexes of answers go on.

mod database;
mod log;
mod messages;
mod stopped;
mod v2;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use keelson_proto::etcdserverpb::Member;

use self::log::LogPlace;
use super::buckets;
use super::dropped::{self, DroppedMember};
use super::file::FileError;
use super::hash_kv::compacted;
use super::input::{InputError, SnapshotFile};
use super::restore::{self, RestoreError};
use crate::Config;
use crate::disk::{self, Disk, DiskFile, RealDisk};
use crate::member::bootstrap::Bootstrap;
use crate::member::recover::Layout;
use crate::open_error::OpenError;
use crate::wal::Identity;

pub use stopped::{Stopped, of_stopped};

/// A data directory of etcd that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Cluster and member.
    pub identity: (u64, u64),
    /// The store's revision.
    pub revision: i64,
    /// The index of the v2 tree, and its keys and directories.
    pub v2: (u64, usize),
    /// The members of the snapshot, which are not in the new cluster.
    pub dropped: Vec<DroppedMember>,
}

/// Why nothing is exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshot cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The new directory is in use, or its flags contradict each other.
    #[error(transparent)]
    Directory(#[from] RestoreError),
    /// The member cannot be opened.
    #[error(transparent)]
    Member(#[from] OpenError),
    /// It holds no member.
    #[error("{} holds no member of Keelson", .0.display())]
    Nothing(PathBuf),
    /// Its state is not the one that the cluster agreed on.
    #[error(
        "the state of the member in {} differs from the majority's since entry {index} or before: \
         export another member, or start this one, which then gets the leader's state",
        dir.display()
    )]
    Differs {
        /// The data directory.
        dir: PathBuf,
        /// The entry of the comparison that showed it.
        index: u64,
    },
    /// The database cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: FileError,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
}

impl ExportError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
        let path = path.to_owned();
        move |error| ExportError::Io { path, error }
    }
}

/// Makes the data directory of `config`, which must be empty, as that of an etcd: a member of the
/// new cluster that `config` describes. Every member of that cluster is made from the same
/// snapshot. Blocks the thread.
///
/// # Errors
/// Those of [`ExportError`]; a directory that was begun must be removed.
pub fn export(file: &SnapshotFile, config: &Config) -> Result<Exported, ExportError> {
    let layout = Layout::of(config);
    super::directory::refuse_used([&config.data_dir, &layout.wal])?;
    let founded = Bootstrap::founding(config)?;
    let members = founded.genesis.unwrap_or_default().members;
    let place = place(file)?;
    let store = v2::ExportedTree::read(file)?;
    for dir in [&layout.snap, &layout.wal] {
        disk::create_dir_durably(&RealDisk, dir).map_err(ExportError::io(dir))?;
    }
    let voters: Vec<_> = members.iter().map(|member| member.id).collect();
    let path = layout.snap.join("db");
    let written = database::write(file, &replaced(file, place, &members)?, &path);
    written.map_err(|error| ExportError::File { path, error })?;
    let snapshot = log::snapshot(place, &voters, store.json(&members));
    write(&layout.snap, &log::snapshot_name(place), &snapshot)?;
    // The log last: without one, etcd would found a cluster.
    let log = log::segment(founded.identity, place, &voters);
    write(&layout.wal, log::FIRST_SEGMENT, &log)?;
    let Identity { cluster, member } = founded.identity;
    Ok(Exported {
        identity: (cluster.0, member.0),
        revision: database::newest(file)?.max(compacted(file)?),
        v2: (store.index, store.len()),
        dropped: dropped::members(file)?,
    })
}

/// The snapshot's place in the log, which etcd continues.
fn place(file: &SnapshotFile) -> Result<LogPlace, InputError> {
    Ok(LogPlace {
        index: restore::word(file, buckets::CONSISTENT_INDEX)?.clamp(1, u64::MAX / 4),
        term: restore::word(file, buckets::TERM)?.clamp(1, u64::MAX / 4),
    })
}

/// The buckets that the new cluster has of its own. Without a cluster version etcd finds its own;
/// it refuses one above.
fn replaced(
    file: &SnapshotFile,
    place: LogPlace,
    members: &[Member],
) -> Result<BTreeMap<&'static str, buckets::Bucket>, InputError> {
    let mut meta = buckets::Bucket::new();
    file.rows(buckets::META, |row| {
        if [buckets::FINISHED_COMPACT, buckets::SCHEDULED_COMPACT].contains(&&row.key[..]) {
            meta.insert(row.key, row.value);
        }
        Ok::<_, InputError>(())
    })?;
    let word = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    let voters: Vec<_> = members.iter().map(|member| member.id).collect();
    meta.extend([
        (
            Bytes::from_static(buckets::CONSISTENT_INDEX),
            word(place.index),
        ),
        (Bytes::from_static(buckets::TERM), word(place.term)),
        (
            Bytes::from_static(buckets::CONF_STATE),
            buckets::voters_row(&voters),
        ),
    ]);
    let rows = members.iter().cloned();
    let rows = rows.map(|member| {
        (
            Bytes::from(format!("{:x}", member.id)),
            buckets::stored(member),
        )
    });
    Ok(BTreeMap::from([
        (buckets::CLUSTER, buckets::Bucket::new()),
        (buckets::MEMBERS, rows.collect()),
        (buckets::MEMBERS_REMOVED, buckets::Bucket::new()),
        (buckets::META, meta),
    ]))
}

/// Writes a new file, durably.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
    let path = dir.join(name);
    let written = || {
        let file = RealDisk.create(&path)?;
        file.write_at(0, bytes)?;
        file.sync_data()?;
        RealDisk.sync_dir(dir)
    };
    written().map_err(ExportError::io(&path))
}
