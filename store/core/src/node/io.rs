//! Everything that can happen to a node, and everything it can ask for.

use bytes::Bytes;
use keelson_proto::{internal, peer};

use crate::{Committed, Entry, HardState, Index, LastIncluded, MemberId, ProposalId, Roster, Term};

/// Something that happened. `git grep Input::` shows all there is.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer sent raft's own message. `MsgSnapshot` is ignored here: see `SnapshotReceived`.
    Raft(peer::RaftMessage),
    /// A client of this member wants that command in the log.
    Propose {
        /// The request's id, of this member and incarnation.
        id: ProposalId,
        /// A `Command`, encoded.
        command: Bytes,
    },
    /// The client of that request no longer waits for it.
    GivenUp {
        /// The request's name.
        id: ProposalId,
    },
    /// A client of this member wants a membership change.
    ProposeMembership {
        /// The request's name.
        id: ProposalId,
        /// A `MemberChange`, encoded.
        change: Bytes,
    },
    /// Clients of this member want to read what is committed now.
    Read {
        /// Comes back in `Output::reads`. The caller never uses one twice.
        context: u64,
    },
    /// Those clients no longer wait for it.
    ReadGivenUp {
        /// The read's.
        context: u64,
    },
    /// A follower handed over its client's request.
    Forwarded(peer::Forward),
    /// The leader did not, and never will, put that request in its log.
    Refused(peer::Refused),
    /// A follower asks for a read index.
    ReadIndexRequested {
        /// Who asks.
        from: MemberId,
        /// What it asks.
        request: peer::ReadIndexRequest,
    },
    /// The leader answered.
    ReadIndexAnswered(peer::ReadIndexResponse),
    /// Everything up to that append is durable.
    Persisted {
        /// `Append::number` of the latest that is.
        number: u64,
    },
    /// The engine holds everything up to that index, so the log need not.
    Durable {
        /// The index.
        index: Index,
    },
    /// The state machine holds more that the engine lacks than it may, or no longer does.
    Backlogged(bool),
    /// The peer's process is surely gone: its connections were reset and new ones are refused.
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
    /// Sending the snapshot to that peer ended.
    SnapshotSent {
        /// To whom.
        to: MemberId,
        /// Whether the peer has all of it.
        ok: bool,
    },
    /// A peer offered a snapshot, and its state has arrived whole.
    SnapshotReceived {
        /// The offer.
        offer: peer::RaftMessage,
        /// The members, as the state has them.
        roster: Box<Roster>,
    },
    /// Hand leadership to that member, or to the one that is furthest; nothing if not the leader.
    TransferLeader(Option<MemberId>),
}

/// What must be done, in the order of the fields.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages that promise nothing that is not durable yet.
    pub send: Vec<(MemberId, peer::PeerMessage)>,
    /// What must be made durable.
    pub append: Option<Append>,
    /// Entries that are committed, for the state machine, in index order.
    pub apply: Vec<Committed>,
    /// Linearizable reads that may go on once the state machine has reached their index.
    pub reads: Vec<ReadReady>,
    /// Requests of this member that are surely not in the log and never will be: safe to repeat.
    pub refused: Vec<(ProposalId, Refusal)>,
    /// Snapshots to send: raft's offer; the state goes with it, as of the offer's index and term.
    pub snapshots: Vec<(MemberId, peer::RaftMessage)>,
    /// Capture the state machine and say so by `Input::SnapshotCaptured`.
    pub snapshot_wanted: bool,
    /// Entries up to this one are no longer needed in the write-ahead log.
    pub truncate: Option<LastIncluded>,
    /// The leader, this member's role or the term changed.
    pub soft_state: Option<SoftState>,
    /// This member is no longer part of the cluster.
    pub removed: bool,
    /// Entries that this member has acknowledged are not in its log: it must not go on.
    pub lost: Option<super::LogLost>,
    /// Call again at this time even if nothing happens.
    pub wake_at: crate::Millis,
}

/// One turn's worth of durable writing.
#[derive(Debug, Default)]
pub struct Append {
    /// For `Input::Persisted`. Numbers rise; appends must become durable in their order.
    pub number: u64,
    /// Replaces the log, before the entries: the state machine has been replaced by a snapshot.
    pub snapshot: Option<(LastIncluded, internal::ConfState)>,
    /// Entries; the first may stand at or below the log's end, and then replaces what follows.
    pub entries: Vec<Entry>,
    /// The new hard state.
    pub hard_state: Option<HardState>,
    /// Nothing to write: the messages only wait for earlier appends.
    pub order_only: bool,
    /// Messages that may leave once all of this, and every append before it, is durable.
    pub send_after: Vec<(MemberId, peer::PeerMessage)>,
}

/// A linearizable read may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// From `Input::Read`.
    pub context: u64,
    /// What the state machine must have applied first.
    pub index: Index,
}

/// Why a request is surely not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No leader is known.
    NoLeader,
    /// The leader changed before the request got into the log for good.
    LeaderChanged,
    /// Too much is waiting for its commit.
    TooManyRequests,
    /// Another membership change is on its way, or the leader has committed nothing in its term yet.
    MembershipChangePending,
    /// The membership change does not fit the members as of the latest entry; `Roster::validate` gives
    /// the reason.
    MembershipConflict,
    /// A voter does not answer the leader, and the membership change could cost the quorum.
    UnhealthyCluster,
    /// The learner does not answer the leader, or its log is too far behind to vote.
    LearnerNotReady,
    /// The last voter cannot be removed.
    LastVoter,
}

/// A member's part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks, or stands, for election.
    Candidate,
    /// It leads.
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
    /// The last entry of the log.
    pub last: Index,
    /// The last committed entry.
    pub committed: Index,
    /// The first entry still in memory.
    pub first: Index,
    /// What the log takes in memory, in bytes.
    pub log_bytes: usize,
}
