//! Errors of requests, with etcd's texts, and errors that stop the member.

use crate::engine::EngineError;
use crate::tree::TreeError;
use crate::{MemberId, RosterError};

/// Why a request changed nothing or could not be read. The texts are etcd's, to the letter: client
/// libraries distinguish errors by them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A request without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on an absent key; also etcd's error for an empty txn op.
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
    /// A streamed range in another order than key order.
    #[error("RangeStream does not support custom sort orders")]
    StreamSorted,
    /// A streamed range with a revision filter.
    #[error("RangeStream does not support revision filters")]
    StreamFiltered,
    /// The lease does not exist.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease with that id exists already.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A time to live beyond [`LEASE_TTL_MAX`](super::LEASE_TTL_MAX).
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The revision is below the compaction.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision is newer than the store's.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRev,
    /// The NOSPACE alarm is active.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is active.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// No such member, or it was removed.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// The member exists already.
    #[error("etcdserver: member ID already exist")]
    MemberExist,
    /// Another member has that peer URL.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExist,
    /// Only learners can be promoted.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// The cluster has the maximum number of learners.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// A request without a user, though auth is enabled; or a user without a name.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// A role without a name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// The name of a user or role is longer than 256 bytes.
    #[error("keelson: the name is longer than 256 bytes")]
    NameTooLong,
    /// The token is unknown, or has expired.
    #[error("etcdserver: invalid auth token")]
    InvalidAuthToken,
    /// A token that names a revision of auth from before its user's password was changed.
    #[error("etcdserver: revision of auth store is old")]
    AuthOldRevision,
    /// The user's roles do not permit the request.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// A change that would leave an enabled auth without root; a permission of an empty range.
    #[error("etcdserver: invalid auth management")]
    InvalidAuthMgmt,
    /// A grant without a permission.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// The role does not have the permission.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// The user does not have the role.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// Auth cannot be enabled without the user root.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// Auth cannot be enabled while root lacks the role root.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// A user of that name exists.
    #[error("etcdserver: user name already exists")]
    UserAlreadyExist,
    /// No user has that name.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role of that name exists.
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExist,
    /// No role has that name.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// An error of the v2 tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A command that this release does not understand.
    #[error("keelson: command not understood; upgrade this member")]
    UnknownCommand,
    /// The cluster is being upgraded: a member of an older release would stop at this command.
    #[error(
        "keelson: a member of the cluster does not understand this request yet; upgrade all members"
    )]
    NotEveryMember,
    /// A downgrade to another version than the one below.
    #[error("etcdserver: invalid downgrade target version")]
    InvalidDowngradeTarget,
    /// A downgrade is in progress.
    #[error("etcdserver: cluster has a downgrade job in progress")]
    DowngradeInProgress,
    /// No downgrade is in progress.
    #[error("etcdserver: no inflight downgrade job")]
    NoDowngrade,
    /// The cluster follows another one.
    #[error(
        "keelson: this cluster is a standby of another one and takes no changes until keelson \
         cutover; write to the other cluster"
    )]
    Standby,
    /// A standby's command for a cluster that is none.
    #[error("keelson: this cluster is no standby")]
    NoStandby,
    /// The storage engine failed, or a row is missing: the member must stop.
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
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Error {
        Error::Engine(error.to_string())
    }
}

/// Why a state machine cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine holds data that no release of Keelson writes.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The layout of the engine, or of a snapshot, is of a newer release.
    #[error(
        "the store has layout {format}, and this release reads {known}: a newer release wrote it. \
         Upgrade this member"
    )]
    Newer {
        /// The layout found.
        format: i64,
        /// The layout that this release reads.
        known: i64,
    },
    /// An entry that this release cannot apply. Nothing of it has been applied.
    #[error(
        "entry {index} of the log holds a command that this release does not understand: a newer \
         release wrote it. Upgrade this member; it then continues from that entry"
    )]
    NotUnderstood {
        /// The index of the entry.
        index: u64,
    },
    /// `force_new_cluster` of a removed member.
    #[error(
        "member {member} was removed from its cluster: it cannot form a new one. Begin the new \
         cluster with the data directory of a member"
    )]
    NotAMember {
        /// The member.
        member: MemberId,
    },
    /// `create` on an engine that already holds a state.
    #[error("the store is not empty")]
    NotEmpty,
}
