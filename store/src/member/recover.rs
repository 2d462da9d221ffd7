//! From a data directory to a member that can go on, or from a configuration to a new one.
//!
//! Order matters: the log is opened first, since its lock keeps a second process out; then the
//! engine; then the two are made to agree (`Node::new`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_core::engine::Engine;
use keelson_core::node::{Node, NodeConfig, Restored};
use keelson_core::state::{Genesis, Limits, StateMachine};
use keelson_core::{ClusterId, HardState, Index, MemberId, SnapshotMark};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{AppliedMark, ConfState};

use crate::config::{Config, InitialClusterState};
use crate::disk::RealDisk;
use crate::engine::EngineKind;
use crate::engine::generation::{CURRENT, Generations};
use crate::open_error::OpenError;
use crate::wal::{Identity, Wal, WalConfig};
use parking_lot::Mutex;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;

/// Everything a member needs to start its threads.
pub(crate) struct Recovery {
    pub(crate) identity: Identity,
    pub(crate) boot: u64,
    /// Neither the engine nor the log held anything of an earlier life.
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

/// How the member's engines are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) kind: EngineKind,
    /// How large LMDB's file may grow. Address space, not memory: the file is as large as its data.
    pub(crate) map_bytes: u64,
}

impl EngineOptions {
    fn of(config: &Config) -> EngineOptions {
        let quota = match config.quota_bytes {
            u64::MAX => MAP_BYTES_MAX,
            quota => quota,
        };
        EngineOptions {
            kind: engine_kind(config),
            map_bytes: quota.saturating_mul(2).clamp(MAP_BYTES_MIN, MAP_BYTES_MAX),
        }
    }
}

/// Twice the default quota.
const MAP_BYTES_MIN: u64 = 4 << 30;
/// More than anybody keeps in etcd, and little of 47 bits of address space.
const MAP_BYTES_MAX: u64 = 1 << 40;

/// Who this member is, and what a new one begins with.
pub(crate) struct Found {
    identity: Identity,
    genesis: Option<Genesis>,
}

/// The directories of a member.
struct Layout {
    wal: PathBuf,
    snap: PathBuf,
}

impl Layout {
    fn of(config: &Config) -> Layout {
        let member = config.data_dir.join("member");
        Layout {
            wal: config.wal_dir.clone().unwrap_or_else(|| member.join("wal")),
            snap: member.join("snap"),
        }
    }
}

/// Whether the directories hold a member that can go on by itself.
pub(crate) fn is_there(config: &Config) -> Result<bool, OpenError> {
    super::foreign::refuse_etcds(config)?;
    let layout = Layout::of(config);
    let identity = Wal::<RealDisk>::identity(&RealDisk, &layout.wal)?;
    Ok(identity.is_some() && layout.snap.join(CURRENT).exists())
}

/// Whether this host has never begun a log.
pub(crate) fn has_no_log(config: &Config) -> bool {
    let identity = Wal::<RealDisk>::identity(&RealDisk, &Layout::of(config).wal);
    matches!(identity, Ok(None))
}

/// Finds out who this member is: from its log, or from the configuration, or from the cluster that
/// it joins.
pub(crate) async fn whom(config: &Config) -> Result<Found, OpenError> {
    super::foreign::refuse_etcds(config)?;
    let layout = Layout::of(config);
    let identity = Wal::<RealDisk>::identity(&RealDisk, &layout.wal)?;
    let has_state = layout.snap.join(CURRENT).exists();
    match identity {
        Some(identity) if has_state => {
            return Ok(Found {
                identity,
                genesis: None,
            });
        }
        // The process ended while it founded or joined: it does so again.
        Some(_) => {}
        None => {
            refuse_state_without_log(&layout, has_state)?;
            super::join::refuse_amnesia(config).await?;
        }
    }
    match config.initial_cluster_state {
        InitialClusterState::New => found(config),
        InitialClusterState::Existing => super::join::join(config).await,
    }
}

/// An engine without a log is half a member: its log was lost, or is somewhere else.
fn refuse_state_without_log(layout: &Layout, has_state: bool) -> Result<(), OpenError> {
    if !has_state {
        return Ok(());
    }
    Err(OpenError::DataDir {
        dir: layout.snap.clone(),
        why: format!(
            "it holds a member's state, but there is no log in {}. Point --wal-dir to the log, or, if \
             it is lost, remove this member from the cluster, empty its data directory and add it \
             again",
            layout.wal.display()
        ),
    })
}

fn found(config: &Config) -> Result<Found, OpenError> {
    config.verify_bootstrap(crate::listen::same_address)?;
    let founders = config.founders();
    let member = config.founding_member_id().expect("verified just above");
    let cluster = config.founding_cluster_id();
    let members = founders.iter().map(|founder| Member {
        id: founder.id.0,
        name: founder.name.clone(),
        peer_ur_ls: founder
            .peer_urls
            .iter()
            .map(|url| url.to_string())
            .collect(),
        ..Member::default()
    });
    let conf_state = ConfState {
        voters: founders.iter().map(|founder| founder.id.0).collect(),
        ..ConfState::default()
    };
    // The founding counts as the first entry: a member that joins later, with an empty log, is then
    // behind the log's start and gets a snapshot, which tells it who founded the cluster.
    let mark = AppliedMark {
        index: 1,
        term: 1,
        conf_state: Some(conf_state),
    };
    let genesis = Genesis {
        cluster_id: cluster,
        members: members.collect(),
        mark,
    };
    Ok(Found {
        identity: Identity { cluster, member },
        genesis: Some(genesis),
    })
}

impl Found {
    #[cfg(test)]
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// A member that joins that cluster as that member.
    pub(crate) fn joining(cluster: ClusterId, member: MemberId, members: Vec<Member>) -> Found {
        let genesis = Genesis {
            cluster_id: cluster,
            members,
            mark: AppliedMark::default(),
        };
        Found {
            identity: Identity { cluster, member },
            genesis: Some(genesis),
        }
    }
}

/// Opens log and engine and makes them agree. Blocks.
pub(crate) fn recover(config: &Config, found: Found) -> Result<Recovery, OpenError> {
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
    let has_no_state = found.genesis.is_some();
    let (mut wal, recovered) =
        Wal::create_or_open(Arc::new(RealDisk), &layout.wal, found.identity, wal_config)?;
    let has_no_entries =
        recovered.entries.is_empty() && recovered.hard_state == HardState::default();
    let is_new = has_no_state && has_no_entries;
    if let Some(repaired) = &recovered.repaired {
        tracing::warn!(%repaired, "the end of the log was repaired");
    }
    // A log that still reaches back to the founding can make the state anew.
    let genesis_index = found
        .genesis
        .as_ref()
        .map_or(0, |genesis| genesis.mark.index);
    if has_no_state && genesis_index < recovered.mark.index.0 {
        return Err(state_is_missing(&layout));
    }
    let generations = Generations::open(Arc::new(RealDisk), &layout.snap);
    let mut generations = generations.map_err(engine_error)?;
    let fresh = match generations.current() {
        Some(_) => None,
        None => Some(generations.begin().map_err(engine_error)?),
    };
    let dir = fresh.as_ref().map(|fresh| fresh.dir.clone());
    let dir = dir
        .or_else(|| generations.current())
        .expect("one of the two");
    let engine = crate::engine::open(options.kind, &dir, options.map_bytes);
    let engine = engine.map_err(engine_error)?;
    let mut state = open_state(&engine, found.genesis, limits, &layout)?;
    if let Some(fresh) = fresh {
        let began = SnapshotMark::from(&state.applied());
        generations.switch(&fresh, began).map_err(engine_error)?;
    }
    if state.view().cluster_id() != found.identity.cluster {
        return Err(OpenError::DataDir {
            dir: layout.snap,
            why: "its state belongs to another cluster than its log; two members' directories \
                  were mixed up"
                .to_owned(),
        });
    }
    let mut restored = Restored {
        hard_state: recovered.hard_state,
        log_start: recovered.mark,
        entries: recovered.entries,
        applied: state.applied(),
        roster: state.view().roster(),
        // Without fsync the engine may be ahead of the log after any crash.
        engine_began: generations.began().filter(|_| !config.unsafe_no_fsync),
    };
    if config.force_new_cluster && !is_new {
        let me = found.identity.member;
        tracing::warn!(member = %me, "going on as a cluster of one; every other member is removed");
        let rest = restored.take_rest();
        state = state
            .go_on_alone(Arc::clone(&engine), me, rest, limits)
            .map_err(engine_error)?;
        restored.applied = state.applied();
        restored.roster = state.view().roster();
        restored.hard_state.commit = Index(restored.applied.index);
        restored.log_start = SnapshotMark::from(&state.applied());
        wal.append(None, &[], Some(restored.log_start))?;
        wal.sync()?;
    }
    let mut node_config = NodeConfig::new(found.identity.member, recovered.boot);
    node_config.heartbeat_ms = config.heartbeat_ms;
    node_config.election_ms = config.election_ms;
    node_config.pre_vote = config.pre_vote;
    node_config.strict_reconfig_check = config.strict_reconfig_check;
    node_config.seed = found.identity.member.0 ^ recovered.boot;
    node_config.catch_up_entries = config.snapshot_catchup_entries.min(config.snapshot_count);
    let (node, mark) = Node::new(node_config, restored)?;
    if let Some(mark) = mark {
        wal.append(None, &[], Some(mark))?;
        wal.sync()?;
    }
    let noted = generations.note_began(SnapshotMark::from(&state.applied()));
    noted.map_err(engine_error)?;
    Ok(Recovery {
        identity: found.identity,
        boot: recovered.boot,
        is_new,
        committed: node.status().committed,
        node,
        state,
        engine,
        wal,
        generations: Arc::new(Mutex::new(generations)),
        options,
        limits,
    })
}

fn engine_kind(config: &Config) -> EngineKind {
    match config.storage_engine {
        crate::config::StorageEngine::Lmdb => EngineKind::Lmdb,
        crate::config::StorageEngine::Sled => EngineKind::Sled,
        crate::config::StorageEngine::Memory => EngineKind::Memory,
    }
}

fn open_state(
    engine: &Arc<dyn Engine>,
    genesis: Option<Genesis>,
    limits: Limits,
    layout: &Layout,
) -> Result<StateMachine, OpenError> {
    if let Some(state) = StateMachine::open(Arc::clone(engine), limits).map_err(engine_error)? {
        return Ok(state);
    }
    match genesis {
        Some(genesis) => {
            StateMachine::create(Arc::clone(engine), genesis, limits).map_err(engine_error)
        }
        None => Err(state_is_missing(layout)),
    }
}

fn state_is_missing(layout: &Layout) -> OpenError {
    OpenError::DataDir {
        dir: layout.snap.clone(),
        why:
            "the log is there but the state is not. Remove this member from the cluster, empty its \
              data directory and add it again"
                .to_owned(),
    }
}

fn engine_error(error: impl std::fmt::Display) -> OpenError {
    OpenError::Engine(error.to_string())
}

/// etcd's data directories are their owner's alone. Those that exist are an operator's, and what is in
/// `member` the member's; in a directory for the log only the log's files are.
fn make_private(config: &Config) -> Result<(), OpenError> {
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
