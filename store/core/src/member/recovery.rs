//! Recovery: from the content of log and engine to a member that can run.
//!
//! The caller opens the log, then the engine, and writes what this module returns. Whether the
//! member may run at all is decided here. The steps are types, which enforce their order:
//! [`Recovery::begin`], [`Recovery::open`], [`Opened::reconcile`].

use std::sync::Arc;

use keelson_proto::etcdserverpb::Member;
use keelson_proto::peer::MembersResponse;

use crate::engine::Engine;
use crate::node::{Node, NodeConfig, NodeError, Restored};
use crate::state::{Genesis, Limits, StateError, StateMachine};
use crate::{ClusterId, Entry, HardState, Index, LastIncluded, MemberId};

/// How a member starts, by what its data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// Log and state are there: the member restarts.
    Restart,
    /// There is neither: the member is new, or has lost its data.
    Fresh,
    /// The process ended while the cluster was founded or joined, or the state was lost: founding
    /// or joining is repeated.
    LogWithoutState,
    /// The log was lost, or lies in another directory.
    StateWithoutLog,
}

impl StartKind {
    /// The kind for a directory that has a log, a state, both or neither.
    pub fn of(has_log: bool, has_state: bool) -> StartKind {
        match (has_log, has_state) {
            (true, true) => StartKind::Restart,
            (true, false) => StartKind::LogWithoutState,
            (false, true) => StartKind::StateWithoutLog,
            (false, false) => StartKind::Fresh,
        }
    }
}

/// Whether a member has run before, by the others' record of it: its client URLs are published. It
/// may then have voted and acknowledged entries, so without its data it must not rejoin under its
/// id.
pub fn has_run<'a>(member: MemberId, members: impl IntoIterator<Item = &'a Member>) -> bool {
    let has_run = |other: &Member| other.id == member.0 && !other.client_ur_ls.is_empty();
    members.into_iter().any(has_run)
}

/// The answers that determine the id of a joining member: those with the highest applied index, and
/// those of releases that do not report one. An id that only an earlier list contains was removed.
pub fn latest(answers: &[MembersResponse]) -> impl Iterator<Item = &MembersResponse> {
    let most = answers.iter().map(|answer| answer.applied).max();
    let most = most.unwrap_or_default();
    let of = move |applied: u64| answers.iter().filter(move |it| it.applied == applied);
    let unreported = if most == 0 { None } else { Some(of(0)) };
    of(most).chain(unreported.into_iter().flatten())
}

/// The content of the opened log.
#[derive(Clone, Debug, Default)]
pub struct RecoveredLog {
    /// The id of its cluster.
    pub cluster: ClusterId,
    /// The hard state.
    pub hard_state: HardState,
    /// The entry before its first.
    pub mark: LastIncluded,
    /// Its entries, in order, without gaps.
    pub entries: Vec<Entry>,
}

/// The operator's flags for the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecoveryFlags {
    /// Start a new cluster with this member alone, regardless of the others in its log.
    pub force_new_cluster: bool,
    /// The log is not synced: the engine may be ahead of it after any crash.
    pub unsafe_no_fsync: bool,
}

/// Why a member cannot start from its data.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The log exists and the state does not.
    #[error(
        "the log is there but the state is not. Remove this member from the cluster, empty its \
         data directory and add it again"
    )]
    StateMissing,
    /// The state belongs to another cluster.
    #[error(
        "its state belongs to another cluster than its log; two members' directories were mixed up"
    )]
    OtherCluster,
    /// The state cannot be opened or created.
    #[error(transparent)]
    State(#[from] StateError),
    /// Log and state do not fit together.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Recovery with an open log, before the engine is open.
pub struct Recovery {
    log: RecoveredLog,
    genesis: Option<Genesis>,
    flags: RecoveryFlags,
    limits: Limits,
    is_new: bool,
}

impl Recovery {
    /// Begins a recovery. A member without a state starts from `genesis`.
    ///
    /// # Errors
    /// The log no longer reaches back to `genesis`: the state cannot be rebuilt from it.
    pub fn begin(
        log: RecoveredLog,
        genesis: Option<Genesis>,
        flags: RecoveryFlags,
        limits: Limits,
    ) -> Result<Recovery, RecoveryError> {
        if let Some(genesis) = &genesis
            && genesis.mark.index < log.mark.index.0
        {
            return Err(RecoveryError::StateMissing);
        }
        let has_no_entries = log.entries.is_empty() && log.hard_state == HardState::default();
        Ok(Recovery {
            is_new: genesis.is_some() && has_no_entries,
            log,
            genesis,
            flags,
            limits,
        })
    }

    /// Opens the state in the engine, or creates it.
    ///
    /// # Errors
    /// The state is missing, damaged, or of another cluster.
    pub fn open(self, engine: Arc<dyn Engine>) -> Result<Opened, RecoveryError> {
        let state = match (
            StateMachine::open(Arc::clone(&engine), self.limits)?,
            self.genesis,
        ) {
            (Some(state), _) => state,
            (None, Some(genesis)) => {
                StateMachine::create(Arc::clone(&engine), genesis, self.limits)?
            }
            (None, None) => return Err(RecoveryError::StateMissing),
        };
        if state.view().cluster_id() != self.log.cluster {
            return Err(RecoveryError::OtherCluster);
        }
        Ok(Opened {
            log: self.log,
            flags: self.flags,
            limits: self.limits,
            is_new: self.is_new,
            engine,
            state,
        })
    }
}

/// Log and state are open, and not yet reconciled.
pub struct Opened {
    log: RecoveredLog,
    flags: RecoveryFlags,
    limits: Limits,
    is_new: bool,
    engine: Arc<dyn Engine>,
    state: StateMachine,
}

/// A member that can run.
pub struct Recovered {
    /// Its Raft node.
    pub node: Node,
    /// Its state machine.
    pub state: StateMachine,
    /// If set, the log must first record this position durably: it restarts there.
    pub mark: Option<LastIncluded>,
    /// Neither the engine nor the log held anything of an earlier incarnation.
    pub is_new: bool,
}

impl Opened {
    /// The position of the state in the engine: the start of a generation that is created from it.
    pub fn holds(&self) -> LastIncluded {
        LastIncluded::from(&self.state.applied())
    }

    /// Whether the member starts a new cluster alone, for `--force-new-cluster`.
    pub fn forces_new_cluster(&self) -> bool {
        self.flags.force_new_cluster && !self.is_new
    }

    /// Reconciles log and state. `began` is the state with which the engine was created, if known.
    ///
    /// # Errors
    /// Log and state do not fit together: one of them has lost data.
    pub fn reconcile(
        self,
        config: NodeConfig,
        began: Option<LastIncluded>,
    ) -> Result<Recovered, RecoveryError> {
        let alone = self.forces_new_cluster();
        let mut state = self.state;
        let mut restored = Restored {
            hard_state: self.log.hard_state,
            log_start: self.log.mark,
            entries: self.log.entries,
            applied: state.applied(),
            roster: state.view().roster(),
            engine_began: began.filter(|_| !self.flags.unsafe_no_fsync),
        };
        let mut forced = None;
        if alone {
            let rest = restored.take_rest();
            state = state.force_new_cluster(self.engine, config.member, rest, self.limits)?;
            restored.applied = state.applied();
            restored.roster = state.view().roster();
            restored.hard_state.commit = Index(restored.applied.index);
            restored.log_start = LastIncluded::from(&state.applied());
            forced = Some(restored.log_start);
        }
        let (node, mark) = Node::new(config, restored)?;
        Ok(Recovered {
            node,
            state,
            mark: mark.or(forced),
            is_new: self.is_new,
        })
    }
}

#[cfg(test)]
mod tests;
