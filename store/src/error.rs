//! The errors of a request.
//!
//! One variant for each of etcd's errors that Keelson can produce. The text of each is etcd's to
//! the letter, because clients compare texts. The matching codes are in `edge/errors.rs`.
//! Sources: etcd v3.7.1 `api/v3rpc/rpctypes/error.go`.

use keelson_core::state;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request names no key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a missing key, or an operation without a kind.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction with more operations than the limit.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction that would write a key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that does not exist.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The revision has been compacted.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision has not been written yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRev,
    /// The storage quota is used up.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,

    /// The lease does not exist.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,

    /// The member id exists already.
    #[error("etcdserver: member ID already exist")]
    MemberExist,
    /// A member with that peer URL exists already.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExist,
    /// The change would leave too few started members.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStartedMembers,
    /// The peer URLs cannot be parsed.
    #[error("etcdserver: given member URLs are invalid")]
    MemberBadUrls,
    /// No such member.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// Only learners are promoted.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// The learner's log is too far behind the leader's.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// More learners than allowed.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// Too few members respond for the change.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,

    /// The proposal is larger than `max_request_bytes`.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// Applying lags too far behind committing.
    #[error("etcdserver: too many requests")]
    TooManyRequests,

    /// There is no leader.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// This member is not the leader.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The member is shutting down.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// No outcome in time. The request may still be applied.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// No outcome in time, and the leader was lost meanwhile.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutDueToLeaderFail,
    /// No outcome in time, and too few peers are connected.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutDueToConnectionLost,
    /// Learners serve few requests.
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,
    /// The target cannot become the leader.
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,

    /// The members disagree on what is stored.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,

    /// A request of etcd's that Keelson does not offer; the text names it.
    #[error("{0}")]
    Unimplemented(&'static str),
    /// An internal failure. etcd sends such texts unchanged, with code Unknown.
    #[error("{0}")]
    Internal(String),
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Error {
        match error {
            state::Error::EmptyKey => Error::EmptyKey,
            state::Error::KeyNotFound => Error::KeyNotFound,
            state::Error::ValueProvided => Error::ValueProvided,
            state::Error::LeaseProvided => Error::LeaseProvided,
            state::Error::TooManyOps => Error::TooManyOps,
            state::Error::DuplicateKey => Error::DuplicateKey,
            state::Error::InvalidSortOption => Error::InvalidSortOption,
            state::Error::StreamSorted => {
                Error::Unimplemented("RangeStream does not support custom sort orders")
            }
            state::Error::StreamFiltered => {
                Error::Unimplemented("RangeStream does not support revision filters")
            }
            state::Error::LeaseNotFound => Error::LeaseNotFound,
            state::Error::Compacted => Error::Compacted,
            state::Error::FutureRev => Error::FutureRev,
            state::Error::NoSpace => Error::NoSpace,
            state::Error::Corrupt => Error::Corrupt,
            state::Error::MemberNotFound => Error::MemberNotFound,
            state::Error::MemberExist => Error::MemberExist,
            state::Error::PeerUrlExist => Error::PeerUrlExist,
            state::Error::MemberNotLearner => Error::MemberNotLearner,
            state::Error::TooManyLearners => Error::TooManyLearners,
            error @ (state::Error::Tree(_)
            | state::Error::UnknownCommand
            | state::Error::NotEveryMember
            | state::Error::Engine(_)) => Error::Internal(error.to_string()),
        }
    }
}
