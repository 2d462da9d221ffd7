//! Users, roles and the auth switch in the tree: `/2/users/<name>`, `/2/roles/<name>`,
//! "/2/enabled".

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use keelson_core::tree::{ErrorCode, NodeExtern, TreeError};
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;

use super::model::{ROOT, Role, User};
use super::{Auth, AuthError};
use crate::v2::ChangeError;
use crate::v2::backend::TreeBackend;

const ENABLED: &str = "/2/enabled";
const USERS: &str = "/2/users";
const ROLES: &str = "/2/roles";

/// Whether auth is on in this member's applied state. Called for every request.
pub(super) fn is_enabled<B: TreeBackend>(backend: &B) -> bool {
    let found = backend.tree_get(ENABLED.as_bytes(), false);
    found.is_ok_and(|(node, _)| node.value.is_some_and(|value| &*value == b"true"))
}

/// Turns auth on or off.
pub(super) async fn enable<B: TreeBackend>(
    backend: &B,
    auth: &Auth,
    enabled: bool,
) -> Result<(), AuthError> {
    let text = if enabled { "true" } else { "false" };
    put(backend, auth, Op::Update, ENABLED.to_owned(), text.into()).await
}

/// The names of all users.
pub(super) fn user_names<B: TreeBackend>(backend: &B) -> Result<Vec<String>, AuthError> {
    names(backend, USERS)
}

/// The names of all roles, including root.
pub(super) fn role_names<B: TreeBackend>(backend: &B) -> Result<Vec<String>, AuthError> {
    let mut names = names(backend, ROLES)?;
    names.push(ROOT.to_owned());
    names.sort_unstable();
    Ok(names)
}

/// A user in this member's applied state.
pub(super) fn user<B: TreeBackend>(backend: &B, name: &str) -> Result<User, AuthError> {
    let missing = || {
        let text = format!("User {name} does not exist.");
        AuthError::refused(StatusCode::NOT_FOUND, text)
    };
    let value = value(backend, USERS, name)?.ok_or_else(missing)?;
    let user = User::parse(&value).ok_or_else(missing)?;
    Ok(user.with_root_role())
}

/// A role in this member's applied state.
pub(super) fn role<B: TreeBackend>(backend: &B, name: &str) -> Result<Role, AuthError> {
    if name == ROOT {
        return Ok(Role::of_all(ROOT));
    }
    let missing = || {
        let text = format!("Role {name} does not exist.");
        AuthError::refused(StatusCode::NOT_FOUND, text)
    };
    let value = value(backend, ROLES, name)?.ok_or_else(missing)?;
    Role::parse(&value).ok_or_else(missing)
}

/// Writes a user.
pub(super) async fn put_user<B: TreeBackend>(
    backend: &B,
    auth: &Auth,
    op: Op,
    user: &User,
) -> Result<(), AuthError> {
    let path = format!("{USERS}/{}", user.name);
    put(backend, auth, op, path, user.to_json()).await
}

/// Writes a role.
pub(super) async fn put_role<B: TreeBackend>(
    backend: &B,
    auth: &Auth,
    op: Op,
    role: &Role,
) -> Result<(), AuthError> {
    let path = format!("{ROLES}/{}", role.name);
    put(backend, auth, op, path, role.to_json()).await
}

/// Deletes a user.
pub(super) async fn delete_user<B: TreeBackend>(
    backend: &B,
    auth: &Auth,
    name: &str,
) -> Result<(), AuthError> {
    put(
        backend,
        auth,
        Op::Delete,
        format!("{USERS}/{name}"),
        Bytes::new(),
    )
    .await
}

/// Deletes a role.
pub(super) async fn delete_role<B: TreeBackend>(
    backend: &B,
    auth: &Auth,
    name: &str,
) -> Result<(), AuthError> {
    put(
        backend,
        auth,
        Op::Delete,
        format!("{ROLES}/{name}"),
        Bytes::new(),
    )
    .await
}

/// Whether the tree refused the request with that code.
pub(super) fn is(error: &AuthError, code: ErrorCode) -> bool {
    matches!(error, AuthError::Tree(refused) if refused.code == code)
}

fn names<B: TreeBackend>(backend: &B, directory: &str) -> Result<Vec<String>, AuthError> {
    let Some(node) = found(backend.tree_get(directory.as_bytes(), false))? else {
        return Ok(Vec::new());
    };
    let name = |child: &NodeExtern| {
        let name = child.key.rsplit(|byte| *byte == b'/').next();
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    };
    Ok(node.nodes.iter().map(name).collect())
}

fn value<B: TreeBackend>(
    backend: &B,
    directory: &str,
    name: &str,
) -> Result<Option<Bytes>, AuthError> {
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return Ok(None);
    }
    let path = format!("{directory}/{name}");
    let node = found(backend.tree_get(path.as_bytes(), false))?;
    Ok(node.and_then(|node| node.value))
}

fn found(read: Result<(NodeExtern, u64), TreeError>) -> Result<Option<NodeExtern>, AuthError> {
    match read {
        Ok((node, _)) => Ok(Some(node)),
        Err(error) if error.code == ErrorCode::KeyNotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn put<B: TreeBackend>(
    backend: &B,
    auth: &Auth,
    op: Op,
    path: String,
    value: Bytes,
) -> Result<(), AuthError> {
    ensure_directories(backend, auth).await?;
    let request = TreeRequest {
        value,
        ..request(backend, op, path)
    };
    backend.tree_change(request).await?;
    Ok(())
}

/// Creates the directories before the first change, as etcd does.
async fn ensure_directories<B: TreeBackend>(backend: &B, auth: &Auth) -> Result<(), AuthError> {
    if auth.has_directories.load(Ordering::Relaxed) {
        return Ok(());
    }
    for directory in ["/2", USERS, ROLES] {
        let request = TreeRequest {
            dir: true,
            ..request(backend, Op::Create, directory.to_owned())
        };
        create(backend, request).await?;
    }
    let request = TreeRequest {
        value: Bytes::from_static(b"false"),
        ..request(backend, Op::Create, ENABLED.to_owned())
    };
    create(backend, request).await?;
    auth.has_directories.store(true, Ordering::Relaxed);
    Ok(())
}

/// Creates a node; it is no error if it exists.
async fn create<B: TreeBackend>(backend: &B, request: TreeRequest) -> Result<(), AuthError> {
    match backend.tree_change(request).await {
        Ok(_) => Ok(()),
        Err(ChangeError::Tree(refused)) if refused.code == ErrorCode::NodeExist => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn request<B: TreeBackend>(backend: &B, op: Op, path: String) -> TreeRequest {
    TreeRequest {
        op: i32::from(op),
        path: path.into(),
        time_ns: backend.now_ns(),
        ..TreeRequest::default()
    }
}
