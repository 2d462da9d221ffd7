//! The errors of a request.
//!
//! One variant for each of etcd's errors that originate outside of the state machine, and one for
//! the state machine's. The text of each is etcd's to the letter, because clients compare texts.
//! The matching codes are in `errors.rs`. Sources: etcd v3.7.1
//! `api/v3rpc/rpctypes/error.go`.

use keelson_core::state;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the state machine, which has etcd's text already.
    #[error(transparent)]
    State(#[from] state::Error),

    /// The change would leave too few started members.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStartedMembers,
    /// The peer URLs cannot be parsed.
    #[error("etcdserver: given member URLs are invalid")]
    MemberBadUrls,
    /// The learner's log is too far behind the leader's.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
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
    /// The target of a downgrade is no version.
    #[error("etcdserver: wrong downgrade target version format")]
    WrongDowngradeFormat,
    /// A downgrade before the members have agreed on a cluster version.
    #[error("etcdserver: cluster version not found during downgrade")]
    NoClusterVersion,
    /// The target cannot become the leader.
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,

    /// A user that cannot log in, or the wrong password.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// Auth is not enabled.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,

    /// The lease of a lock or a candidate is lost, or its key was deleted.
    #[error("mutex: session is expired")]
    SessionExpired,
    /// The key of a candidate or a leader is gone.
    #[error("election: not leader")]
    NotElected,

    /// An internal failure. etcd sends such texts unchanged, with code Unknown.
    #[error("{0}")]
    Internal(String),
}
