//! What is generated: a call and its caller.

use keelson_proto::etcdserverpb::*;

use crate::differential::generate::Operation;

/// The number of sessions: tokens that callers have.
pub const SESSIONS: usize = 7;

/// The credentials of a call.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// A client without a token.
    Nobody,
    /// A client with this token, which is not valid.
    Token(&'static str),
    /// A client with the token of this session's last login; without one, none.
    Session(usize),
}

/// One call.
#[derive(Clone, Debug)]
pub enum Call {
    /// A request about pairs or leases.
    Kv(Operation),
    /// A watch on a stream of its own, up to its first message.
    Watch(WatchCreateRequest),
    /// A login; the token is this session's from then on.
    Login(usize, AuthenticateRequest),
    /// `AuthEnable`.
    Enable,
    /// `AuthDisable`.
    Disable,
    /// `AuthStatus`.
    AuthStatus,
    /// `UserAdd`.
    UserAdd(AuthUserAddRequest),
    /// `UserGet`.
    UserGet(AuthUserGetRequest),
    /// `UserList`.
    UserList,
    /// `UserDelete`.
    UserDelete(AuthUserDeleteRequest),
    /// `UserChangePassword`.
    ChangePassword(AuthUserChangePasswordRequest),
    /// `UserGrantRole`.
    GrantRole(AuthUserGrantRoleRequest),
    /// `UserRevokeRole`.
    RevokeRole(AuthUserRevokeRoleRequest),
    /// `RoleAdd`.
    RoleAdd(AuthRoleAddRequest),
    /// `RoleGet`.
    RoleGet(AuthRoleGetRequest),
    /// `RoleList`.
    RoleList,
    /// `RoleDelete`.
    RoleDelete(AuthRoleDeleteRequest),
    /// `RoleGrantPermission`.
    GrantPermission(AuthRoleGrantPermissionRequest),
    /// `RoleRevokePermission`.
    RevokePermission(AuthRoleRevokePermissionRequest),
    /// `MemberList`.
    Members,
    /// `MemberAdd`.
    MemberAdd(MemberAddRequest),
    /// `MemberRemove`.
    MemberRemove(MemberRemoveRequest),
    /// `MemberUpdate`.
    MemberUpdate(MemberUpdateRequest),
    /// `MemberPromote`.
    MemberPromote(MemberPromoteRequest),
    /// `Status`.
    Status,
    /// `Alarm`.
    Alarm(AlarmRequest),
    /// `Hash`.
    Hash,
    /// `Snapshot`, up to its first message.
    Snapshot,
    /// `MoveLeader`.
    MoveLeader(MoveLeaderRequest),
}
