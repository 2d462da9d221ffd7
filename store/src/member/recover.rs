//! Recovers a member from its data directory, or creates one from a configuration.
//!
//! The log is opened first, since its lock excludes a second process. The next steps are in
//! `recovery.rs`, which the simulator runs as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_core::engine::Engine;
use keelson_core::member::{RecoveryError, RecoveryFlags, StartKind};
use keelson_core::node::{Node, NodeConfig};
use keelson_core::state::{Limits, StateMachine};
use keelson_core::{Index, MemberId};
use keelson_port::ClientTls;

use super::bootstrap::Bootstrap;
use crate::config::{Config, InitialClusterState};
use crate::disk::RealDisk;
use crate::engine::StorageEngine;
use crate::engine::generation::{CURRENT, Generations};
use crate::open_error::OpenError;
use crate::recovery::{self, Opening};
use crate::wal::{Identity, Wal, WalConfig};
use parking_lot::Mutex;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;

/// The parts of a recovered member, from which its threads start.
pub(crate) struct MemberParts {
    pub(crate) identity: Identity,
    pub(crate) incarnation: u64,
    /// Neither the engine nor the log held anything of an earlier run.
    pub(crate) is_new: bool,
    pub(crate) committed: Index,
    pub(crate) node: Node,
    pub(crate) state: StateMachine,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) wal: Wal<RealDisk>,
    pub(crate) generations: Arc<Mutex<Generations<RealDisk>>>,
    pub(crate) options: EngineOptions,
    pub(crate) limits: Limits,
}

/// The options for opening the member's engines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) kind: StorageEngine,
    /// The maximum size of LMDB's file, in bytes. It reserves address space, not memory or disk.
    pub(crate) map_bytes: u64,
}

impl EngineOptions {
    pub(crate) fn of(config: &Config) -> EngineOptions {
        let quota = match config.quota_bytes {
            u64::MAX => MAP_BYTES_MAX,
            quota => quota,
        };
        EngineOptions {
            kind: config.storage_engine,
            map_bytes: quota.saturating_mul(2).clamp(MAP_BYTES_MIN, MAP_BYTES_MAX),
        }
    }
}

/// The lower bound of `map_bytes`: twice the default quota.
const MAP_BYTES_MIN: u64 = 4 << 30;
/// The upper bound of `map_bytes`: more than any etcd holds, and a small part of 47 bits of
/// address space.
const MAP_BYTES_MAX: u64 = 1 << 40;

/// The directories of a member.
pub(crate) struct Layout {
    pub(crate) wal: PathBuf,
    pub(crate) snap: PathBuf,
}

impl Layout {
    pub(crate) fn of(config: &Config) -> Layout {
        let member = config.data_dir.join("member");
        Layout {
            wal: config.wal_dir.clone().unwrap_or_else(|| member.join("wal")),
            snap: member.join("snap"),
        }
    }
}

/// Whether the directories hold a member that can start from them alone.
pub(crate) fn is_there(config: &Config) -> Result<bool, OpenError> {
    super::foreign::refuse_etcds(config)?;
    let layout = Layout::of(config);
    let identity = Wal::<RealDisk>::identity(&RealDisk, &layout.wal)?;
    Ok(identity.is_some() && layout.snap.join(CURRENT).exists())
}

/// Whether this host has no log.
pub(crate) fn has_no_log(config: &Config) -> bool {
    let identity = Wal::<RealDisk>::identity(&RealDisk, &Layout::of(config).wal);
    matches!(identity, Ok(None))
}

/// Determines the member's identity: from its log, from the configuration, or from the cluster
/// that it joins.
pub(crate) async fn identify(config: &Config, tls: &ClientTls) -> Result<Bootstrap, OpenError> {
    super::foreign::refuse_etcds(config)?;
    let layout = Layout::of(config);
    let identity = Wal::<RealDisk>::identity(&RealDisk, &layout.wal)?;
    let has_state = layout.snap.join(CURRENT).exists();
    match (StartKind::of(identity.is_some(), has_state), identity) {
        (StartKind::Restart, Some(identity)) => {
            return Ok(Bootstrap::restart(identity));
        }
        (StartKind::StateWithoutLog, _) => return Err(state_without_log(&layout)),
        (StartKind::Fresh, _) => super::join::refuse_amnesia(config, tls).await?,
        _ => {}
    }
    match config.initial_cluster_state {
        InitialClusterState::New => Bootstrap::founding(config),
        InitialClusterState::Existing => super::join::join(config, tls).await,
    }
}

fn state_without_log(layout: &Layout) -> OpenError {
    OpenError::DataDir {
        dir: layout.snap.clone(),
        why: format!(
            "it holds a member's state, but there is no log in {}. Point --wal-dir to the log, or, \
             if it is lost, remove this member from the cluster, empty its data directory and \
             add it again",
            layout.wal.display()
        ),
    }
}

/// Opens the log and the engine and makes them agree. Blocks the thread.
pub(crate) fn recover(config: &Config, bootstrap: Bootstrap) -> Result<MemberParts, OpenError> {
    let layout = Layout::of(config);
    make_private(config)?;
    let wal_config = WalConfig {
        unsafe_no_fsync: config.unsafe_no_fsync,
        ..WalConfig::default()
    };
    let limits = Limits {
        quota_bytes: config.quota_bytes,
    };
    let options = EngineOptions::of(config);
    let disk = Arc::new(RealDisk);
    let (mut wal, recovered) = Wal::create_or_open(
        Arc::clone(&disk),
        &layout.wal,
        bootstrap.identity,
        wal_config,
    )?;
    if let Some(repaired) = &recovered.repaired {
        tracing::warn!(%repaired, "the end of the log was repaired");
    }
    let incarnation = recovered.boot;
    let opening = Opening {
        disk,
        dir: &layout.snap,
        genesis: bootstrap.genesis,
        flags: RecoveryFlags {
            force_new_cluster: config.force_new_cluster,
            unsafe_no_fsync: config.unsafe_no_fsync,
        },
        limits,
        node: node_config(config, bootstrap.identity.member, incarnation),
        open_engine: |dir: &Path| crate::engine::open(options.kind, dir, options.map_bytes),
    };
    let member = recovery::open(&mut wal, recovered, opening);
    let mut member = member.map_err(|error| open_error(error, &layout))?;
    member.state.pretend(config.command_version);
    Ok(MemberParts {
        identity: bootstrap.identity,
        incarnation,
        is_new: member.is_new,
        committed: member.node.status().committed,
        node: member.node,
        state: member.state,
        engine: member.engine,
        wal,
        generations: Arc::new(Mutex::new(member.generations)),
        options,
        limits,
    })
}

fn node_config(config: &Config, member: MemberId, incarnation: u64) -> NodeConfig {
    NodeConfig {
        heartbeat_ms: config.heartbeat_ms,
        election_ms: config.election_ms,
        pre_vote: config.pre_vote,
        strict_reconfig_check: config.strict_reconfig_check,
        learners_max: config.max_learners,
        seed: member.0 ^ incarnation,
        catch_up_entries: config.snapshot_catchup_entries.min(config.snapshot_count),
        ..NodeConfig::new(member, incarnation)
    }
}

fn open_error(error: recovery::OpeningError, layout: &Layout) -> OpenError {
    let why = match error {
        recovery::OpeningError::Wal(error) => return error.into(),
        recovery::OpeningError::Recovery(RecoveryError::Node(error)) => return error.into(),
        recovery::OpeningError::Recovery(
            why @ (RecoveryError::StateMissing | RecoveryError::OtherCluster),
        ) => why,
        other => return OpenError::Engine(other.to_string()),
    };
    OpenError::DataDir {
        dir: layout.snap.clone(),
        why: why.to_string(),
    }
}

/// Restricts the member's directories to their owner, as etcd's are. An existing data directory
/// keeps its mode; `member` in it belongs to Keelson; in a separate log directory only the log's
/// files do.
pub(crate) fn make_private(config: &Config) -> Result<(), OpenError> {
    let fail = |dir: &Path, error: std::io::Error| OpenError::DataDir {
        dir: dir.to_owned(),
        why: format!("{error}. Check the path and its permissions"),
    };
    let member = config.data_dir.join("member");
    for dir in std::iter::once(&config.data_dir).chain(&config.wal_dir) {
        crate::disk::create_private_dir(dir).map_err(|error| fail(dir, error))?;
        crate::disk::warn_if_open(dir);
    }
    crate::disk::make_private(&member).map_err(|error| fail(&member, error))?;
    match &config.wal_dir {
        Some(dir) => crate::disk::make_files_private(dir, crate::wal::is_own_file)
            .map_err(|error| fail(dir, error)),
        None => Ok(()),
    }
}
