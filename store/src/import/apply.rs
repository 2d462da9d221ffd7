//! etcd's requests as commands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use keelson_proto::internal::auth_change::Op as AuthOp;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::tree_request::Op as TreeOp;
use keelson_proto::internal::{
    AsUser, AuthChange, AuthEnable, ClusterVersion, Command, TreeExpire, TreeRequest,
};

use super::messages::{InternalRequest, V2Request};

/// The part of the v2 tree in which etcd keeps its members.
const OF_MEMBERS: &[u8] = b"/0";

/// The command of a request of the v3 API; `None` for one that changes nothing here.
pub(super) fn of_v3(request: InternalRequest) -> Option<Command> {
    let user = request.header.clone().unwrap_or_default().username;
    let op = op_of(request)?;
    let command = Command { op: Some(op) };
    // Without a user it is the member's own, for example the expiry of a lease.
    if user.is_empty() {
        return Some(command);
    }
    let as_user = AsUser {
        user,
        since: 0,
        command: Some(Box::new(command)),
    };
    Some(Command {
        op: Some(Op::AsUser(Box::new(as_user))),
    })
}

fn op_of(request: InternalRequest) -> Option<Op> {
    let InternalRequest {
        header: _,
        v2: _,
        put,
        delete_range,
        txn,
        compaction,
        lease_grant,
        lease_revoke,
        alarm,
        auth_enable: _,
        auth_disable: _,
        user_add: _,
        user_delete: _,
        user_change_password: _,
        user_grant_role: _,
        user_revoke_role: _,
        role_add: _,
        role_delete: _,
        role_grant_permission: _,
        role_revoke_permission: _,
    } = &request;
    let pairs = (put.clone().map(Op::Put))
        .or_else(|| delete_range.clone().map(Op::DeleteRange))
        .or_else(|| txn.clone().map(Op::Txn))
        .or_else(|| compaction.map(Op::Compaction));
    pairs
        .or_else(|| lease_grant.map(Op::LeaseGrant))
        .or_else(|| lease_revoke.map(Op::LeaseRevoke))
        .or_else(|| alarm.map(Op::Alarm))
        .or_else(|| {
            let op = Some(auth_op(request)?);
            Some(Op::Auth(AuthChange { op }))
        })
}

fn auth_op(request: InternalRequest) -> Option<AuthOp> {
    // Hashes are in base64 there.
    let hash = |text: &str| {
        let hash = BASE64.decode(text).ok().map(String::from_utf8);
        hash.and_then(Result::ok).unwrap_or_default()
    };
    let enable = request.auth_enable.map(|_| {
        let secret = Bytes::new();
        AuthOp::Enable(AuthEnable { secret })
    });
    let users = (request.user_add.map(|mut add| {
        add.hashed_password = hash(&add.hashed_password);
        add.password.clear();
        AuthOp::UserAdd(add)
    }))
    .or(request.user_delete.map(AuthOp::UserDelete))
    .or_else(|| {
        let mut change = request.user_change_password?;
        change.hashed_password = hash(&change.hashed_password);
        change.password.clear();
        Some(AuthOp::UserChangePassword(change))
    })
    .or(request.user_grant_role.map(AuthOp::UserGrantRole))
    .or(request.user_revoke_role.map(AuthOp::UserRevokeRole));
    let roles = (request.role_add.map(AuthOp::RoleAdd))
        .or(request.role_delete.map(AuthOp::RoleDelete))
        .or(request
            .role_grant_permission
            .map(AuthOp::RoleGrantPermission))
        .or(request
            .role_revoke_permission
            .map(AuthOp::RoleRevokePermission));
    enable
        .or(request.auth_disable.map(AuthOp::Disable))
        .or(users)
        .or(roles)
}

/// The command of a request of the v2 API, by etcd's rules; `None` for one that changes nothing.
/// Those of etcd's own members only raise the tree's index.
pub(super) fn of_v2(request: V2Request) -> Option<Command> {
    if request.method == "SYNC" {
        let expire = TreeExpire {
            time_ns: request.time,
            ..TreeExpire::default()
        };
        return Some(Command {
            op: Some(Op::TreeExpire(expire)),
        });
    }
    let op = tree_op(&request)?;
    if request.path.starts_with(OF_MEMBERS) {
        return Some(raising());
    }
    let tree = TreeRequest {
        op: op.into(),
        path: request.path,
        value: request.value,
        dir: request.dir,
        recursive: request.recursive,
        prev_index: request.prev_index,
        prev_value: request.prev_value,
        expires_ns: request.expiration,
        refresh: request.refresh.unwrap_or_default(),
        time_ns: request.time,
    };
    Some(Command {
        op: Some(Op::Tree(tree)),
    })
}

/// A command that raises the v2 tree's index.
pub(super) fn raising() -> Command {
    let version = crate::version::CLUSTER.to_owned();
    Command {
        op: Some(Op::ClusterVersion(ClusterVersion { version })),
    }
}

fn tree_op(request: &V2Request) -> Option<TreeOp> {
    let compares = request.prev_index != 0 || !request.prev_value.is_empty();
    match (request.method.as_str(), request.prev_exist) {
        ("POST", _) => Some(TreeOp::CreateInOrder),
        ("PUT", Some(false)) => Some(TreeOp::Create),
        ("PUT", _) if compares => Some(TreeOp::CompareAndSwap),
        ("PUT", Some(true)) => Some(TreeOp::Update),
        ("PUT", None) => Some(TreeOp::Set),
        ("DELETE", _) if compares => Some(TreeOp::CompareAndDelete),
        ("DELETE", _) => Some(TreeOp::Delete),
        _ => None,
    }
}
