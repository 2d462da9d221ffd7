//! Makes a data directory from a snapshot: ours, or an etcd's.

use std::path::PathBuf;
use std::sync::Arc;

use keelson_core::LastIncluded;
use keelson_core::state::{Genesis, Import, ImportEnd, StateError};
use keelson_proto::authpb;
use keelson_proto::etcdserverpb::AlarmMember;
use keelson_proto::internal::{AuthMeta, LeaseRow};
use prost::Message;

use super::buckets;
use super::directory::NewDirectory;
use super::dropped::{self, DroppedMember};
use super::hash_kv::compacted;
use super::input::{InputError, SnapshotFile};
use crate::Config;
use crate::engine::generation::GenerationError;
use crate::open_error::OpenError;
use crate::wal::{Identity, WalError};

/// What a restoration changes of the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// Added to the store's revision, and to the v2 tree's index: clients have seen later ones than
    /// the snapshot's, and would take them for old.
    pub bump_revision: u64,
    /// Whether everything up to the new revision counts as compacted: watches and caches of clients
    /// begin anew.
    pub mark_compacted: bool,
}

/// A data directory that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Cluster and member.
    pub identity: (u64, u64),
    /// The store's revision.
    pub revision: i64,
    /// The members of the snapshot, which are not in the new cluster.
    pub dropped: Vec<DroppedMember>,
}

/// Why a snapshot is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A row of the snapshot has no place in a state.
    #[error("the snapshot cannot be restored: {0}")]
    State(#[from] StateError),
    /// etcd's text.
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
    /// The flags of the new cluster contradict each other.
    #[error(transparent)]
    Bootstrap(#[from] OpenError),
    /// The engine cannot be created.
    #[error(transparent)]
    Engine(#[from] keelson_core::engine::EngineError),
    /// The directory of the engine cannot be written.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The log cannot be written.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// Restores a snapshot into the data directory of `config`, as a member of the new cluster that
/// `config` describes. Every member of that cluster is restored from the same snapshot with the
/// same options. Blocks the thread.
///
/// # Errors
/// Those of [`RestoreError`]; a directory that was begun must be removed.
pub fn restore(
    file: &SnapshotFile,
    config: &Config,
    options: RestoreOptions,
) -> Result<Restored, RestoreError> {
    restore_as(file, config, options, None)
}

/// Restores a snapshot as [`restore`] does, as the standby of the cluster that it is from: with its
/// revision, without its alarms, and with `term` or a later one. Beside the member's directories
/// the data directory may have other files.
///
/// # Errors
/// Those of [`restore`].
pub fn restore_standby(
    file: &SnapshotFile,
    config: &Config,
    term: u64,
) -> Result<Restored, RestoreError> {
    let options = RestoreOptions {
        bump_revision: 0,
        mark_compacted: false,
    };
    restore_as(file, config, options, Some(term))
}

/// Whether a standby could be restored for this configuration: the directories of a member are
/// empty, or not there.
///
/// # Errors
/// [`RestoreError::NotEmpty`].
pub fn check_unused(config: &Config) -> Result<(), RestoreError> {
    NewDirectory::check_beside(config)
}

fn restore_as(
    file: &SnapshotFile,
    config: &Config,
    options: RestoreOptions,
    standby: Option<u64>,
) -> Result<Restored, RestoreError> {
    let directory = match standby {
        Some(_) => NewDirectory::begin_beside(config)?,
        None => NewDirectory::begin(config)?,
    };
    let mut end = place(file, directory.genesis.clone(), options)?;
    if let Some(term) = standby {
        end.genesis.mark.term = end.genesis.mark.term.max(term).min(u64::MAX / 4);
    }
    let mark = LastIncluded::from(&end.genesis.mark);
    let engine = Arc::clone(&directory.engine);
    let mut import = Import::new(engine, mark.index.0, options.bump_revision);
    match standby {
        // Alarms are those of the source's members, and end there.
        Some(_) => import.standby(),
        None => fill_alarms(file, &mut import)?,
    }
    let dropped = fill(file, &mut import)?;
    fill_tree(file, &mut import)?;
    let newest = import.newest().max(compacted(file)?);
    let bump = i64::try_from(options.bump_revision).unwrap_or(i64::MAX);
    end.revision = newest.saturating_add(bump);
    if options.mark_compacted {
        end.compacted = end.revision;
    }
    let revision = end.revision;
    import.finish(end)?;
    let Identity { cluster, member } = directory.identity;
    directory.finish(mark)?;
    Ok(Restored {
        identity: (cluster.0, member.0),
        revision,
        dropped,
    })
}

/// The members of the new cluster, at the snapshot's place in the log. The place does not go back:
/// indexes and terms are in headers and in v2 answers.
fn place(
    file: &SnapshotFile,
    mut genesis: Genesis,
    options: RestoreOptions,
) -> Result<ImportEnd, RestoreError> {
    let index = word(file, buckets::CONSISTENT_INDEX)?.saturating_add(options.bump_revision);
    // Far below the largest number: the file may state any.
    genesis.mark.index = index.clamp(1, u64::MAX / 4);
    genesis.mark.term = word(file, buckets::TERM)?.clamp(1, u64::MAX / 4);
    Ok(ImportEnd {
        genesis,
        revision: 1,
        compacted: compacted(file)?,
    })
}

/// A number of the bucket `meta`; 0 if there is none.
pub(crate) fn word(file: &SnapshotFile, key: &[u8]) -> Result<u64, InputError> {
    let row = file.row(buckets::META, key)?;
    let bytes = row.and_then(|row| row[..].try_into().ok());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

/// Imports etcd's buckets but for alarms. Returns the members that are left out.
pub(crate) fn fill(
    file: &SnapshotFile,
    import: &mut Import,
) -> Result<Vec<DroppedMember>, RestoreError> {
    file.rows(buckets::KEY, |row| {
        Ok::<_, RestoreError>(import.pair(row.key, row.value)?)
    })?;
    file.rows(buckets::LEASE, |row| {
        let lease = LeaseRow::decode(row.value);
        let lease = lease.map_err(|error| file.wrong(buckets::LEASE, error))?;
        Ok::<_, RestoreError>(import.lease(lease)?)
    })?;
    fill_auth(file, import)?;
    Ok(dropped::members(file)?)
}

/// Imports the alarms.
pub(crate) fn fill_alarms(file: &SnapshotFile, import: &mut Import) -> Result<(), RestoreError> {
    file.rows(buckets::ALARM, |row| {
        let alarm = AlarmMember::decode(row.key);
        let alarm = alarm.map_err(|error| file.wrong(buckets::ALARM, error))?;
        Ok::<_, RestoreError>(import.alarm(&alarm)?)
    })
}

/// Imports the bucket of the v2 tree.
fn fill_tree(file: &SnapshotFile, import: &mut Import) -> Result<(), RestoreError> {
    file.rows(buckets::TREE, |row| match row.key.len() {
        9.. => Ok::<_, RestoreError>(import.tree(row.key.slice(8..), row.value)?),
        _ => Err(file.wrong(buckets::TREE, "a key without a number").into()),
    })
}

fn fill_auth(file: &SnapshotFile, import: &mut Import) -> Result<(), RestoreError> {
    let enabled = file.row(buckets::AUTH, buckets::AUTH_ENABLED)?;
    let revision = file.row(buckets::AUTH, buckets::AUTH_REVISION)?;
    let is_unused = enabled.is_none() && revision.is_none();
    let revision = match revision.as_deref().map(<[u8; 8]>::try_from) {
        None => 0,
        Some(Ok(word)) => u64::from_be_bytes(word),
        Some(Err(error)) => Err(file.wrong(buckets::AUTH, error))?,
    };
    file.rows(buckets::AUTH_USERS, |row| {
        let user = authpb::User::decode(row.value);
        let user = user.map_err(|error| file.wrong(buckets::AUTH_USERS, error))?;
        Ok::<_, RestoreError>(import.user(user, revision)?)
    })?;
    file.rows(buckets::AUTH_ROLES, |row| {
        let role = authpb::Role::decode(row.value);
        let role = role.map_err(|error| file.wrong(buckets::AUTH_ROLES, error))?;
        Ok::<_, RestoreError>(import.role(&role)?)
    })?;
    if is_unused {
        return Ok(());
    }
    let enabled = enabled.is_some_and(|row| row[..] == [1]);
    import.auth(&AuthMeta {
        enabled,
        revision,
        // The members agree on a key for tokens at the first login.
        secret: bytes::Bytes::new(),
    })?;
    Ok(())
}
