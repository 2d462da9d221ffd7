//! The paths below `/v3`: the gRPC method of each, with its request and answer.

use std::sync::Arc;

use axum::routing::MethodRouter;
use keelson_proto::etcdserverpb::*;
use keelson_proto::{v3electionpb, v3lockpb};

use super::{Calls, bidi_stream, server_stream, unary};

/// A path, and its handler.
type Route<C> = (&'static str, MethodRouter<Arc<C>>);

/// All paths.
pub(super) fn all<C: Calls>() -> Vec<Route<C>> {
    let groups = [
        kv(),
        watch(),
        lease(),
        cluster(),
        maintenance(),
        auth(),
        auth_user(),
        auth_role(),
        election(),
        lock(),
    ];
    groups.into_iter().flatten().collect()
}

fn kv<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, RangeRequest, RangeResponse>("/kv/range", "/etcdserverpb.KV/Range"),
        unary::<C, PutRequest, PutResponse>("/kv/put", "/etcdserverpb.KV/Put"),
        unary::<C, DeleteRangeRequest, DeleteRangeResponse>(
            "/kv/deleterange",
            "/etcdserverpb.KV/DeleteRange",
        ),
        unary::<C, TxnRequest, TxnResponse>("/kv/txn", "/etcdserverpb.KV/Txn"),
        unary::<C, CompactionRequest, CompactionResponse>(
            "/kv/compaction",
            "/etcdserverpb.KV/Compact",
        ),
    ]
}

fn watch<C: Calls>() -> Vec<Route<C>> {
    vec![bidi_stream::<C, WatchRequest, WatchResponse>(
        "/watch",
        "/etcdserverpb.Watch/Watch",
    )]
}

fn lease<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, LeaseGrantRequest, LeaseGrantResponse>(
            "/lease/grant",
            "/etcdserverpb.Lease/LeaseGrant",
        ),
        unary::<C, LeaseRevokeRequest, LeaseRevokeResponse>(
            "/lease/revoke",
            "/etcdserverpb.Lease/LeaseRevoke",
        ),
        unary::<C, LeaseRevokeRequest, LeaseRevokeResponse>(
            "/kv/lease/revoke",
            "/etcdserverpb.Lease/LeaseRevoke",
        ),
        bidi_stream::<C, LeaseKeepAliveRequest, LeaseKeepAliveResponse>(
            "/lease/keepalive",
            "/etcdserverpb.Lease/LeaseKeepAlive",
        ),
        unary::<C, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse>(
            "/lease/timetolive",
            "/etcdserverpb.Lease/LeaseTimeToLive",
        ),
        unary::<C, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse>(
            "/kv/lease/timetolive",
            "/etcdserverpb.Lease/LeaseTimeToLive",
        ),
        unary::<C, LeaseLeasesRequest, LeaseLeasesResponse>(
            "/lease/leases",
            "/etcdserverpb.Lease/LeaseLeases",
        ),
        unary::<C, LeaseLeasesRequest, LeaseLeasesResponse>(
            "/kv/lease/leases",
            "/etcdserverpb.Lease/LeaseLeases",
        ),
    ]
}

fn cluster<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, MemberAddRequest, MemberAddResponse>(
            "/cluster/member/add",
            "/etcdserverpb.Cluster/MemberAdd",
        ),
        unary::<C, MemberRemoveRequest, MemberRemoveResponse>(
            "/cluster/member/remove",
            "/etcdserverpb.Cluster/MemberRemove",
        ),
        unary::<C, MemberUpdateRequest, MemberUpdateResponse>(
            "/cluster/member/update",
            "/etcdserverpb.Cluster/MemberUpdate",
        ),
        unary::<C, MemberListRequest, MemberListResponse>(
            "/cluster/member/list",
            "/etcdserverpb.Cluster/MemberList",
        ),
        unary::<C, MemberPromoteRequest, MemberPromoteResponse>(
            "/cluster/member/promote",
            "/etcdserverpb.Cluster/MemberPromote",
        ),
    ]
}

fn maintenance<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, AlarmRequest, AlarmResponse>(
            "/maintenance/alarm",
            "/etcdserverpb.Maintenance/Alarm",
        ),
        unary::<C, StatusRequest, StatusResponse>(
            "/maintenance/status",
            "/etcdserverpb.Maintenance/Status",
        ),
        unary::<C, DefragmentRequest, DefragmentResponse>(
            "/maintenance/defragment",
            "/etcdserverpb.Maintenance/Defragment",
        ),
        unary::<C, HashRequest, HashResponse>(
            "/maintenance/hash",
            "/etcdserverpb.Maintenance/Hash",
        ),
        unary::<C, HashKvRequest, HashKvResponse>(
            "/maintenance/hashkv",
            "/etcdserverpb.Maintenance/HashKV",
        ),
        server_stream::<C, SnapshotRequest, SnapshotResponse>(
            "/maintenance/snapshot",
            "/etcdserverpb.Maintenance/Snapshot",
        ),
        unary::<C, MoveLeaderRequest, MoveLeaderResponse>(
            "/maintenance/transfer-leadership",
            "/etcdserverpb.Maintenance/MoveLeader",
        ),
        unary::<C, DowngradeRequest, DowngradeResponse>(
            "/maintenance/downgrade",
            "/etcdserverpb.Maintenance/Downgrade",
        ),
    ]
}

fn auth<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, AuthEnableRequest, AuthEnableResponse>(
            "/auth/enable",
            "/etcdserverpb.Auth/AuthEnable",
        ),
        unary::<C, AuthDisableRequest, AuthDisableResponse>(
            "/auth/disable",
            "/etcdserverpb.Auth/AuthDisable",
        ),
        unary::<C, AuthStatusRequest, AuthStatusResponse>(
            "/auth/status",
            "/etcdserverpb.Auth/AuthStatus",
        ),
        unary::<C, AuthenticateRequest, AuthenticateResponse>(
            "/auth/authenticate",
            "/etcdserverpb.Auth/Authenticate",
        ),
    ]
}

fn auth_user<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, AuthUserAddRequest, AuthUserAddResponse>(
            "/auth/user/add",
            "/etcdserverpb.Auth/UserAdd",
        ),
        unary::<C, AuthUserGetRequest, AuthUserGetResponse>(
            "/auth/user/get",
            "/etcdserverpb.Auth/UserGet",
        ),
        unary::<C, AuthUserListRequest, AuthUserListResponse>(
            "/auth/user/list",
            "/etcdserverpb.Auth/UserList",
        ),
        unary::<C, AuthUserDeleteRequest, AuthUserDeleteResponse>(
            "/auth/user/delete",
            "/etcdserverpb.Auth/UserDelete",
        ),
        unary::<C, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse>(
            "/auth/user/changepw",
            "/etcdserverpb.Auth/UserChangePassword",
        ),
        unary::<C, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse>(
            "/auth/user/grant",
            "/etcdserverpb.Auth/UserGrantRole",
        ),
        unary::<C, AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse>(
            "/auth/user/revoke",
            "/etcdserverpb.Auth/UserRevokeRole",
        ),
    ]
}

fn auth_role<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, AuthRoleAddRequest, AuthRoleAddResponse>(
            "/auth/role/add",
            "/etcdserverpb.Auth/RoleAdd",
        ),
        unary::<C, AuthRoleGetRequest, AuthRoleGetResponse>(
            "/auth/role/get",
            "/etcdserverpb.Auth/RoleGet",
        ),
        unary::<C, AuthRoleListRequest, AuthRoleListResponse>(
            "/auth/role/list",
            "/etcdserverpb.Auth/RoleList",
        ),
        unary::<C, AuthRoleDeleteRequest, AuthRoleDeleteResponse>(
            "/auth/role/delete",
            "/etcdserverpb.Auth/RoleDelete",
        ),
        unary::<C, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse>(
            "/auth/role/grant",
            "/etcdserverpb.Auth/RoleGrantPermission",
        ),
        unary::<C, AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse>(
            "/auth/role/revoke",
            "/etcdserverpb.Auth/RoleRevokePermission",
        ),
    ]
}

fn election<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, v3electionpb::CampaignRequest, v3electionpb::CampaignResponse>(
            "/election/campaign",
            "/v3electionpb.Election/Campaign",
        ),
        unary::<C, v3electionpb::ProclaimRequest, v3electionpb::ProclaimResponse>(
            "/election/proclaim",
            "/v3electionpb.Election/Proclaim",
        ),
        unary::<C, v3electionpb::LeaderRequest, v3electionpb::LeaderResponse>(
            "/election/leader",
            "/v3electionpb.Election/Leader",
        ),
        server_stream::<C, v3electionpb::LeaderRequest, v3electionpb::LeaderResponse>(
            "/election/observe",
            "/v3electionpb.Election/Observe",
        ),
        unary::<C, v3electionpb::ResignRequest, v3electionpb::ResignResponse>(
            "/election/resign",
            "/v3electionpb.Election/Resign",
        ),
    ]
}

fn lock<C: Calls>() -> Vec<Route<C>> {
    vec![
        unary::<C, v3lockpb::LockRequest, v3lockpb::LockResponse>(
            "/lock/lock",
            "/v3lockpb.Lock/Lock",
        ),
        unary::<C, v3lockpb::UnlockRequest, v3lockpb::UnlockResponse>(
            "/lock/unlock",
            "/v3lockpb.Lock/Unlock",
        ),
    ]
}
