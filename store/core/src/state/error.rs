//! What a request can be refused for, in etcd's words, and what ends the member.

use crate::engine::EngineError;
use crate::tree::TreeError;
use crate::{MemberId, RosterError};

/// Why a request changed nothing or could not be read. The texts are etcd's, to the letter: client
/// libraries tell errors apart by them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A request without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on an absent key; also etcd's answer to an empty txn op.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A value together with `ignore_value`.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A lease together with `ignore_lease`.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More operations in a txn than allowed.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A txn that writes a key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that does not exist.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// A streamed range in an order of the caller's choice.
    #[error("RangeStream does not support custom sort orders")]
    StreamSorted,
    /// A streamed range with a revision filter.
    #[error("RangeStream does not support revision filters")]
    StreamFiltered,
    /// The lease does not exist.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The revision is below the compaction.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision has not happened yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRev,
    /// The NOSPACE alarm is on.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is on.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// No such member, or it was removed.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// The member is there already.
    #[error("etcdserver: member ID already exist")]
    MemberExist,
    /// Another member has that peer URL.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExist,
    /// Only learners can be promoted.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// The cluster has as many learners as it may.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// The v2 tree refuses.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A request that this release does not understand.
    #[error("keelson: command not understood; upgrade this member")]
    UnknownCommand,
    /// The cluster is being upgraded: some member would have to stop at this command.
    #[error(
        "keelson: a member of the cluster does not understand this request yet; upgrade all members"
    )]
    NotEveryMember,
    /// The storage engine failed, or a row that must be there is not: the member must stop.
    #[error("{0}")]
    Engine(String),
}

impl From<RosterError> for Error {
    fn from(error: RosterError) -> Error {
        match error {
            RosterError::Unknown => Error::UnknownCommand,
            RosterError::NotFound => Error::MemberNotFound,
            RosterError::Exists => Error::MemberExist,
            RosterError::PeerUrlExists => Error::PeerUrlExist,
            RosterError::NotLearner => Error::MemberNotLearner,
            RosterError::TooManyLearners => Error::TooManyLearners,
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Error {
        Error::Engine(error.to_string())
    }
}

/// Why a state machine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine holds something that no Keelson wrote.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The engine, or a snapshot, is laid out by a newer release.
    #[error(
        "the store has layout {format}, and this release reads {known}: a newer release wrote it. \
         Upgrade this member"
    )]
    Newer {
        /// What it has.
        format: i64,
        /// What this release writes.
        known: i64,
    },
    /// An entry that this release cannot apply. Nothing of it has been applied.
    #[error(
        "entry {index} of the log holds a command that this release does not understand: a newer \
         release wrote it. Upgrade this member; it then goes on from that entry"
    )]
    NotUnderstood {
        /// Where it stands.
        index: u64,
    },
    /// `force_new_cluster` for a member that has left the cluster.
    #[error(
        "member {member} was removed from its cluster: it cannot go on as a new one. Begin the new \
         cluster with the data directory of a member"
    )]
    NotAMember {
        /// Which.
        member: MemberId,
    },
    /// `create` on an engine that holds a state already.
    #[error("the store is not empty")]
    NotEmpty,
}
