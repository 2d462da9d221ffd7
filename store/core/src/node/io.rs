//! The inputs and outputs of a node.

use bytes::Bytes;
use keelson_proto::{internal, peer};

use crate::{Committed, Entry, HardState, Index, LastIncluded, MemberId, ProposalId, Roster, Term};

/// An event that a node processes.
#[derive(Clone, Debug)]
pub enum Input {
    /// A Raft message from a peer. `MsgSnapshot` is ignored here: see `SnapshotReceived`.
    Raft(peer::RaftMessage),
    /// A client of this member proposes a command.
    Propose {
        /// The request's id, of this member and incarnation.
        id: ProposalId,
        /// A `Command`, encoded.
        command: Bytes,
    },
    /// The client of that request has stopped waiting.
    ProposalCancelled {
        /// The request's name.
        id: ProposalId,
    },
    /// A client of this member proposes a membership change.
    ProposeMembership {
        /// The request's name.
        id: ProposalId,
        /// A `MemberChange`, encoded.
        change: Bytes,
    },
    /// Clients of this member request a linearizable read.
    Read {
        /// Identifies the read in `Output::reads`. The caller never reuses one.
        context: u64,
    },
    /// The clients of that read have stopped waiting.
    ReadCancelled {
        /// The context of that read.
        context: u64,
    },
    /// A request that a follower forwards for its client.
    Forwarded(peer::Forward),
    /// The leader has not appended that forwarded request, and never will.
    Refused(peer::Refused),
    /// A follower requests a read index.
    ReadIndexRequested {
        /// The follower.
        from: MemberId,
        /// Its request.
        request: peer::ReadIndexRequest,
    },
    /// The leader's answer to a read index request.
    ReadIndexAnswered(peer::ReadIndexResponse),
    /// Everything up to that append is durable.
    Persisted {
        /// `Append::number` of the latest durable one.
        number: u64,
    },
    /// The engine holds everything up to that index durably: the log may be cut there.
    Durable {
        /// The index.
        index: Index,
    },
    /// Whether the state machine has more unflushed bytes than it may.
    Backlogged(bool),
    /// The peer's process has ended: its connections were reset and new ones are refused.
    PeerDown(MemberId),
    /// The peer can be reached again.
    PeerUp(MemberId),
    /// Messages to the peer were lost.
    Unreachable(MemberId),
    /// The caller holds a capture of the state machine that can be sent.
    SnapshotCaptured {
        /// The last entry of the captured state.
        last_included: LastIncluded,
        /// The membership at that index.
        conf_state: internal::ConfState,
    },
    /// The caller has released that capture: the next follower needs another one.
    SnapshotReleased {
        /// The last entry of the captured state.
        last_included: LastIncluded,
    },
    /// The transfer of a snapshot to that peer has ended.
    SnapshotSent {
        /// The peer.
        to: MemberId,
        /// Whether the peer has all of it.
        ok: bool,
    },
    /// A snapshot from a peer has been received completely.
    SnapshotReceived {
        /// The sender's `MsgSnapshot`.
        offer: peer::RaftMessage,
        /// The members in the snapshot's state.
        roster: Box<Roster>,
    },
    /// Transfer leadership to that member, or to the voter with the longest log. Ignored unless
    /// this member leads.
    TransferLeader(Option<MemberId>),
}

/// What must be done, in the order of the fields.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages that may leave now: they promise nothing that is not durable yet.
    pub send: Vec<(MemberId, peer::PeerMessage)>,
    /// The log write of this step.
    pub append: Option<Append>,
    /// Committed entries for the state machine, in index order.
    pub apply: Vec<Committed>,
    /// Linearizable reads that may be answered once the state machine has applied their index.
    pub reads: Vec<ReadReady>,
    /// Requests of this member that are certainly in no log and never will be: safe to repeat.
    pub refused: Vec<(ProposalId, Refusal)>,
    /// Snapshots to send: a `MsgSnapshot` each, to be sent with the captured state of its index and
    /// term.
    pub snapshots: Vec<(MemberId, peer::RaftMessage)>,
    /// Capture the state machine; report it with `Input::SnapshotCaptured`.
    pub snapshot_wanted: bool,
    /// Entries up to this one are no longer needed in the write-ahead log.
    pub truncate: Option<LastIncluded>,
    /// The leader, this member's role or the term changed.
    pub soft_state: Option<SoftState>,
    /// This member is no longer part of the cluster.
    pub removed: bool,
    /// Entries that this member has acknowledged are missing from its log: it must stop.
    pub lost: Option<super::LogLost>,
    /// The latest time of the next call.
    pub wake_at: crate::Millis,
}

/// One step's write to the log.
#[derive(Debug, Default)]
pub struct Append {
    /// For `Input::Persisted`. Numbers increase; appends must become durable in this order.
    pub number: u64,
    /// A snapshot that replaces the log, before the entries are appended.
    pub snapshot: Option<(LastIncluded, internal::ConfState)>,
    /// Entries. If the first is at or below the log's end, it replaces the entries from there on.
    pub entries: Vec<Entry>,
    /// The new hard state.
    pub hard_state: Option<HardState>,
    /// Nothing to write: the messages wait for earlier appends only.
    pub order_only: bool,
    /// Messages that may leave once all of this, and every append before it, is durable.
    pub send_after: Vec<(MemberId, peer::PeerMessage)>,
}

/// A linearizable read whose index has been confirmed by a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// From `Input::Read`.
    pub context: u64,
    /// The index that the state machine must have applied first.
    pub index: Index,
}

/// Why a request is certainly not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No leader is known.
    NoLeader,
    /// The leader changed before the request was committed.
    LeaderChanged,
    /// Too many bytes wait for their commit, or for the disk or the engine.
    TooManyRequests,
    /// Another membership change is uncommitted, or the leader has committed nothing in its term
    /// yet.
    MembershipChangePending,
    /// The membership change does not fit the members as of the latest entry; `Roster::validate`
    /// returns the reason.
    MembershipConflict,
    /// A voter does not answer the leader, and the membership change could cost the quorum.
    UnhealthyCluster,
    /// The learner does not answer the leader, or its log is too far behind to vote.
    LearnerNotReady,
    /// The last voter cannot be removed.
    LastVoter,
    /// The cluster has `NodeConfig::learners_max` learners.
    TooManyLearners,
}

/// A member's Raft role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A follower, with or without a leader.
    Follower,
    /// A candidate, or a pre-candidate.
    Candidate,
    /// The leader.
    Leader,
}

/// The state of a member that is not persisted: etcd's `SoftState`, with the term beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftState {
    /// The leader, `MemberId::NONE` if unknown.
    pub leader: MemberId,
    /// This member's role.
    pub role: Role,
    /// The current term.
    pub term: Term,
}

/// A node's position, for status requests and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The leader, this member's role and the term.
    pub soft_state: SoftState,
    /// The term for clients: the highest of the durable hard state and of the delivered entries.
    /// The term of the soft state may be lost in a crash, and an answer must never have a lower
    /// term than an earlier one (Patroni refuses such answers).
    pub shown_term: Term,
    /// The last entry of the log.
    pub last: Index,
    /// The last committed entry.
    pub committed: Index,
    /// The last committed entry that was delivered to the state machine. The leader commits entries
    /// that followers have persisted and it has not; they are delivered once it has.
    pub delivered: Index,
    /// The first entry still in memory.
    pub first: Index,
    /// The size of the log in memory, in bytes.
    pub log_bytes: usize,
}
