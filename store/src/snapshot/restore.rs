//! Makes a data directory from a snapshot: ours, or an etcd's.
//!
//! The state comes first and the log last: an interrupted restoration leaves a directory that no
//! member starts from.

use std::path::PathBuf;
use std::sync::Arc;

use keelson_core::state::{Import, ImportEnd, StateError};
use keelson_core::{HardState, Index, LastIncluded, MemberId, Term};
use keelson_proto::authpb;
use keelson_proto::etcdserverpb::AlarmMember;
use keelson_proto::internal::{AuthMeta, LeaseRow};
use prost::Message;

use super::buckets::{self, StoredMember};
use super::hash_kv::compacted;
use super::input::{InputError, SnapshotFile};
use crate::Config;
use crate::disk::{Disk, RealDisk};
use crate::engine::generation::{GenerationError, Generations};
use crate::member::bootstrap::Bootstrap;
use crate::member::recover::{EngineOptions, Layout};
use crate::open_error::OpenError;
use crate::wal::{Identity, Wal, WalConfig, WalError};

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
    /// The members of the snapshot, which are not in the new cluster: ids and names.
    pub dropped: Vec<(u64, String)>,
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
    let layout = Layout::of(config);
    refuse_used(config, &layout)?;
    let bootstrap = Bootstrap::founding(config)?;
    crate::member::recover::make_private(config)?;
    let mut end = genesis(file, &bootstrap, options)?;
    let mut generations = Generations::open(Arc::new(RealDisk), &layout.snap)?;
    let fresh = generations.begin()?;
    let engine = EngineOptions::of(config);
    let engine = crate::engine::open(engine.kind, &fresh.dir, engine.map_bytes)?;
    let index = end.genesis.mark.index;
    let mut import = Import::new(Arc::clone(&engine), index, options.bump_revision);
    let dropped = fill(file, &mut import)?;
    let newest = import.newest().max(compacted(file)?);
    let bump = i64::try_from(options.bump_revision).unwrap_or(i64::MAX);
    end.revision = newest.saturating_add(bump);
    if options.mark_compacted {
        end.compacted = end.revision;
    }
    let (mark, revision) = (LastIncluded::from(&end.genesis.mark), end.revision);
    import.finish(end)?;
    drop(engine);
    generations.switch(&fresh, mark)?;
    write_log(&layout, bootstrap.identity, mark)?;
    let Identity { cluster, member } = bootstrap.identity;
    Ok(Restored {
        identity: (cluster.0, member.0),
        revision,
        dropped,
    })
}

/// Refuses directories that hold anything.
fn refuse_used(config: &Config, layout: &Layout) -> Result<(), RestoreError> {
    for dir in [&config.data_dir, &layout.wal] {
        let is_empty = match RealDisk.exists(dir) {
            Ok(false) => true,
            Ok(true) => RealDisk.list(dir).is_ok_and(|names| names.is_empty()),
            Err(_) => false,
        };
        if !is_empty {
            return Err(RestoreError::NotEmpty(dir.clone()));
        }
    }
    Ok(())
}

/// The members of the new cluster, at the snapshot's place in the log. The place does not go back:
/// indexes and terms are in headers and in v2 answers.
fn genesis(
    file: &SnapshotFile,
    bootstrap: &Bootstrap,
    options: RestoreOptions,
) -> Result<ImportEnd, RestoreError> {
    let word = |key: &[u8]| -> Result<u64, InputError> {
        let row = file.row(buckets::META, key)?;
        let bytes = row.and_then(|row| row[..].try_into().ok());
        Ok(bytes.map_or(0, u64::from_be_bytes))
    };
    let mut genesis = bootstrap.genesis.clone().unwrap_or_default();
    let index = word(buckets::CONSISTENT_INDEX)?.saturating_add(options.bump_revision);
    // A place far below the largest number: the file may state any.
    genesis.mark.index = index.clamp(1, u64::MAX / 4);
    genesis.mark.term = word(buckets::TERM)?.clamp(1, u64::MAX / 4);
    Ok(ImportEnd {
        genesis,
        revision: 1,
        compacted: compacted(file)?,
    })
}

/// Imports the buckets. Returns the members that are left out.
fn fill(file: &SnapshotFile, import: &mut Import) -> Result<Vec<(u64, String)>, RestoreError> {
    file.rows(buckets::KEY, |row| {
        Ok::<_, RestoreError>(import.pair(row.key, row.value)?)
    })?;
    file.rows(buckets::LEASE, |row| {
        let lease = LeaseRow::decode(row.value);
        let lease = lease.map_err(|error| file.wrong(buckets::LEASE, error))?;
        Ok::<_, RestoreError>(import.lease(lease)?)
    })?;
    file.rows(buckets::ALARM, |row| {
        let alarm = AlarmMember::decode(row.key);
        let alarm = alarm.map_err(|error| file.wrong(buckets::ALARM, error))?;
        Ok::<_, RestoreError>(import.alarm(&alarm)?)
    })?;
    file.rows(buckets::TREE, |row| match row.key.len() {
        9.. => Ok::<_, RestoreError>(import.tree(row.key.slice(8..), row.value)?),
        _ => Err(file.wrong(buckets::TREE, "a key without a number").into()),
    })?;
    fill_auth(file, import)?;
    members(file)
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

/// The members of the snapshot.
fn members(file: &SnapshotFile) -> Result<Vec<(u64, String)>, RestoreError> {
    let mut members = Vec::new();
    file.rows(buckets::MEMBERS, |row| {
        let member: StoredMember = serde_json::from_slice(&row.value)
            .map_err(|error| file.wrong(buckets::MEMBERS, error))?;
        members.push((member.id, member.name));
        Ok::<_, RestoreError>(())
    })?;
    Ok(members)
}

/// A log without entries, which begins at the state's place.
fn write_log(layout: &Layout, identity: Identity, mark: LastIncluded) -> Result<(), RestoreError> {
    let config = WalConfig::default();
    let created = Wal::create_or_open(Arc::new(RealDisk), &layout.wal, identity, config);
    let (mut wal, _) = created?;
    let hard_state = HardState {
        term: Term(mark.term.0),
        vote: MemberId::NONE,
        commit: Index(mark.index.0),
    };
    wal.append(Some(hard_state), &[], Some(mark))?;
    wal.sync()?;
    Ok(())
}
