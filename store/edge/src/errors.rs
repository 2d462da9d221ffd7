//! The mapping from `Error` to the wire: a gRPC code, and the HTTP status that grpc-gateway
//! derives from it. The texts are the errors' own.

use keelson_core::state;
use tonic::{Code, Status};

use crate::Error;

mod http_status;

pub use self::http_status::http_status;

/// The gRPC code that etcd sends with the error.
pub(crate) fn code(error: &Error) -> Code {
    use Error::*;
    match error {
        State(error) => state_code(error),
        // etcd maps these two to its client-side error type, which has no code, so that they
        // arrive as Unknown, unlike the table in `rpctypes` (etcd v3.4.23 and v3.7.1).
        NotEnoughStartedMembers | TooManyRequests => Code::Unknown,
        SessionExpired | NotElected | Internal(_) => Code::Unknown,
        MemberBadUrls | RequestTooLarge | AuthFailed | WrongDowngradeFormat => {
            Code::InvalidArgument
        }
        LearnerNotReady
        | NotLeader
        | NotSupportedForLearner
        | BadLeaderTransferee
        | NoClusterVersion
        | AuthNotEnabled => Code::FailedPrecondition,
        NoLeader
        | Stopped
        | Timeout
        | TimeoutDueToLeaderFail
        | TimeoutDueToConnectionLost
        | Unhealthy => Code::Unavailable,
    }
}

/// The code for an error of the state machine. Those that etcd does not have are Unknown.
fn state_code(error: &state::Error) -> Code {
    use state::Error::*;
    match error {
        EmptyKey | KeyNotFound | ValueProvided | LeaseProvided | TooManyOps | DuplicateKey
        | InvalidSortOption => Code::InvalidArgument,
        UserEmpty
        | RoleEmpty
        | NameTooLong
        | PermissionNotGiven
        | InvalidAuthMgmt
        | AuthOldRevision
        | InvalidDowngradeTarget => Code::InvalidArgument,
        DowngradeInProgress | NoDowngrade => Code::FailedPrecondition,
        RootUserNotExist | RootRoleNotExist | UserAlreadyExist | UserNotFound
        | RoleAlreadyExist | RoleNotFound | RoleNotGranted | PermissionNotGranted => {
            Code::FailedPrecondition
        }
        PermissionDenied => Code::PermissionDenied,
        InvalidAuthToken => Code::Unauthenticated,
        LeaseNotFound | MemberNotFound => Code::NotFound,
        NoSpace => Code::ResourceExhausted,
        MemberExist | PeerUrlExist | MemberNotLearner | TooManyLearners | LeaseExists => {
            Code::FailedPrecondition
        }
        Compacted | FutureRev | LeaseTtlTooLarge => Code::OutOfRange,
        StreamSorted | StreamFiltered => Code::Unimplemented,
        Corrupt => Code::DataLoss,
        Standby | NoStandby => Code::FailedPrecondition,
        // The member stops: clients go on at another one.
        Engine(_) => Code::Unavailable,
        Tree(_) | UnknownCommand | NotEveryMember => Code::Unknown,
    }
}

impl From<Error> for Status {
    #[cold]
    fn from(error: Error) -> Status {
        Status::new(code(&error), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code, text and gateway status of every error, independent of the implementation. etcd
    /// v3.7.1 `api/v3rpc/rpctypes/error.go`, `server/etcdserver/api/v3rpc/util.go`.
    fn reference() -> Vec<(Error, i32, &'static str, u16)> {
        use Error::*;
        use state::Error::*;
        vec![
            (
                NotEnoughStartedMembers,
                2,
                "etcdserver: re-configuration failed due to not enough started members",
                500,
            ),
            (TooManyRequests, 2, "etcdserver: too many requests", 500),
            (SessionExpired, 2, "mutex: session is expired", 500),
            (NotElected, 2, "election: not leader", 500),
            (State(UserEmpty), 3, "etcdserver: user name is empty", 400),
            (State(RoleEmpty), 3, "etcdserver: role name is empty", 400),
            (
                AuthFailed,
                3,
                "etcdserver: authentication failed, invalid user ID or password",
                400,
            ),
            (
                State(PermissionNotGiven),
                3,
                "etcdserver: permission not given",
                400,
            ),
            (
                State(InvalidAuthMgmt),
                3,
                "etcdserver: invalid auth management",
                400,
            ),
            (
                State(PermissionDenied),
                7,
                "etcdserver: permission denied",
                403,
            ),
            (
                State(RootUserNotExist),
                9,
                "etcdserver: root user does not exist",
                400,
            ),
            (
                State(RootRoleNotExist),
                9,
                "etcdserver: root user does not have root role",
                400,
            ),
            (
                State(UserAlreadyExist),
                9,
                "etcdserver: user name already exists",
                400,
            ),
            (
                State(UserNotFound),
                9,
                "etcdserver: user name not found",
                400,
            ),
            (
                State(RoleAlreadyExist),
                9,
                "etcdserver: role name already exists",
                400,
            ),
            (
                State(RoleNotFound),
                9,
                "etcdserver: role name not found",
                400,
            ),
            (
                State(RoleNotGranted),
                9,
                "etcdserver: role is not granted to the user",
                400,
            ),
            (
                State(PermissionNotGranted),
                9,
                "etcdserver: permission is not granted to the role",
                400,
            ),
            (
                AuthNotEnabled,
                9,
                "etcdserver: authentication is not enabled",
                400,
            ),
            (
                State(InvalidAuthToken),
                16,
                "etcdserver: invalid auth token",
                401,
            ),
            (
                State(AuthOldRevision),
                3,
                "etcdserver: revision of auth store is old",
                400,
            ),
            (Internal("disk on fire".into()), 2, "disk on fire", 500),
            (
                State(Engine("disk on fire".into())),
                14,
                "disk on fire",
                503,
            ),
            (State(EmptyKey), 3, "etcdserver: key is not provided", 400),
            (State(KeyNotFound), 3, "etcdserver: key not found", 400),
            (
                State(ValueProvided),
                3,
                "etcdserver: value is provided",
                400,
            ),
            (
                State(LeaseProvided),
                3,
                "etcdserver: lease is provided",
                400,
            ),
            (
                State(TooManyOps),
                3,
                "etcdserver: too many operations in txn request",
                400,
            ),
            (
                State(DuplicateKey),
                3,
                "etcdserver: duplicate key given in txn request",
                400,
            ),
            (
                State(InvalidSortOption),
                3,
                "etcdserver: invalid sort option",
                400,
            ),
            (
                MemberBadUrls,
                3,
                "etcdserver: given member URLs are invalid",
                400,
            ),
            (RequestTooLarge, 3, "etcdserver: request is too large", 400),
            (
                State(LeaseNotFound),
                5,
                "etcdserver: requested lease not found",
                404,
            ),
            (
                State(LeaseExists),
                9,
                "etcdserver: lease already exists",
                400,
            ),
            (
                State(LeaseTtlTooLarge),
                11,
                "etcdserver: too large lease TTL",
                400,
            ),
            (
                State(MemberNotFound),
                5,
                "etcdserver: member not found",
                404,
            ),
            (
                State(NoSpace),
                8,
                "etcdserver: mvcc: database space exceeded",
                429,
            ),
            (
                State(MemberExist),
                9,
                "etcdserver: member ID already exist",
                400,
            ),
            (
                State(PeerUrlExist),
                9,
                "etcdserver: Peer URLs already exists",
                400,
            ),
            (
                State(MemberNotLearner),
                9,
                "etcdserver: can only promote a learner member",
                400,
            ),
            (
                LearnerNotReady,
                9,
                "etcdserver: can only promote a learner member which is in sync with leader",
                400,
            ),
            (
                State(TooManyLearners),
                9,
                "etcdserver: too many learner members in cluster",
                400,
            ),
            (NotLeader, 9, "etcdserver: not leader", 400),
            (
                WrongDowngradeFormat,
                3,
                "etcdserver: wrong downgrade target version format",
                400,
            ),
            (
                State(InvalidDowngradeTarget),
                3,
                "etcdserver: invalid downgrade target version",
                400,
            ),
            (
                NoClusterVersion,
                9,
                "etcdserver: cluster version not found during downgrade",
                400,
            ),
            (
                State(DowngradeInProgress),
                9,
                "etcdserver: cluster has a downgrade job in progress",
                400,
            ),
            (
                State(NoDowngrade),
                9,
                "etcdserver: no inflight downgrade job",
                400,
            ),
            (
                NotSupportedForLearner,
                9,
                "etcdserver: rpc not supported for learner",
                400,
            ),
            (
                BadLeaderTransferee,
                9,
                "etcdserver: bad leader transferee",
                400,
            ),
            (
                State(Compacted),
                11,
                "etcdserver: mvcc: required revision has been compacted",
                400,
            ),
            (
                State(FutureRev),
                11,
                "etcdserver: mvcc: required revision is a future revision",
                400,
            ),
            (
                State(StreamSorted),
                12,
                "RangeStream does not support custom sort orders",
                501,
            ),
            (
                State(StreamFiltered),
                12,
                "RangeStream does not support revision filters",
                501,
            ),
            (NoLeader, 14, "etcdserver: no leader", 503),
            (Stopped, 14, "etcdserver: server stopped", 503),
            (Timeout, 14, "etcdserver: request timed out", 503),
            (
                TimeoutDueToLeaderFail,
                14,
                "etcdserver: request timed out, possibly due to previous leader failure",
                503,
            ),
            (
                TimeoutDueToConnectionLost,
                14,
                "etcdserver: request timed out, possibly due to connection lost",
                503,
            ),
            (Unhealthy, 14, "etcdserver: unhealthy cluster", 503),
            (State(Corrupt), 15, "etcdserver: corrupt cluster", 500),
        ]
    }

    #[test]
    fn every_error_has_etcds_code_text_and_status() {
        for (error, expected_code, text, http) in reference() {
            let status = Status::from(error.clone());
            assert_eq!(status.code() as i32, expected_code, "{error:?}");
            assert_eq!(status.message(), text, "{error:?}");
            assert_eq!(http_status(status.code()).as_u16(), http, "{error:?}");
        }
    }
}
