//! `/v2/auth/users`.

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::request::Parts;
use http::{Method, StatusCode};
use keelson_core::tree::ErrorCode;
use keelson_proto::internal::tree_request::Op;

use super::model::{ROOT, Role, User};
use super::{AuthError, INVALID_JSON, bad_request, check_query, read_body, records};
use crate::v2::backend::TreeBackend;
use crate::v2::{Api, BoxError, json};

/// The list of all users with their roles; missing roles are omitted.
pub(super) fn list<B: TreeBackend>(inner: &Api<B>, parts: &Parts) -> Result<Response, AuthError> {
    let names = records::user_names(&inner.backend)?;
    check_query(parts)?;
    let mut out = BytesMut::with_capacity(256);
    out.extend_from_slice(b"{\"users\":");
    for (at, name) in names.iter().enumerate() {
        out.put_u8(if at == 0 { b'[' } else { b',' });
        let user = records::user(&inner.backend, name)?;
        let roles = user.roles.iter().flatten();
        let roles = roles.filter_map(|name| records::role(&inner.backend, name).ok());
        write(&mut out, &user.name, &roles.collect::<Vec<_>>());
    }
    match names.is_empty() {
        true => out.extend_from_slice(b"null}\n"),
        false => out.extend_from_slice(b"]}\n"),
    }
    Ok(inner.answers.json(StatusCode::OK, out.freeze()))
}

/// Requests for one user.
pub(super) async fn serve<B, R>(
    inner: &Api<B>,
    name: &str,
    parts: &Parts,
    body: R,
) -> Result<Response, AuthError>
where
    B: TreeBackend,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    match parts.method {
        Method::GET => show(inner, name, parts),
        Method::PUT => put(inner, name, &read_body(inner, body).await?).await,
        _ => delete(inner, name).await,
    }
}

/// One user with its roles; a missing role is an error here.
fn show<B: TreeBackend>(inner: &Api<B>, name: &str, parts: &Parts) -> Result<Response, AuthError> {
    let user = records::user(&inner.backend, name)?;
    check_query(parts)?;
    let roles = user.roles.iter().flatten();
    let roles: Result<Vec<Role>, AuthError> = roles
        .map(|name| records::role(&inner.backend, name))
        .collect();
    let mut out = BytesMut::with_capacity(256);
    write(&mut out, &user.name, &roles?);
    out.put_u8(b'\n');
    Ok(inner.answers.json(StatusCode::OK, out.freeze()))
}

async fn put<B: TreeBackend>(
    inner: &Api<B>,
    name: &str,
    body: &[u8],
) -> Result<Response, AuthError> {
    let change = User::parse(body).ok_or_else(|| bad_request(INVALID_JSON))?;
    if change.name != name {
        let text = "User JSON name does not match the name in the URL";
        return Err(bad_request(text));
    }
    let has_roles = change.roles.iter().flatten().next().is_some();
    let (status, mut user) = if change.changes_roles() {
        if has_roles {
            return Err(bad_request(
                "User JSON contains both roles and grant/revoke",
            ));
        }
        (StatusCode::OK, update(inner, &change).await?)
    } else if has_roles {
        (StatusCode::OK, create(inner, change).await?)
    } else if read_user(inner, name).await.is_ok() {
        (StatusCode::OK, update(inner, &change).await?)
    } else {
        (StatusCode::CREATED, create(inner, change).await?)
    };
    user.password = String::new();
    let mut out = BytesMut::from(&user.to_json()[..]);
    out.put_u8(b'\n');
    Ok(inner.answers.json(status, out.freeze()))
}

/// The user, after a linearizable read.
async fn read_user<B: TreeBackend>(inner: &Api<B>, name: &str) -> Result<User, AuthError> {
    inner.backend.read_index().await?;
    records::user(&inner.backend, name)
}

async fn create<B: TreeBackend>(inner: &Api<B>, change: User) -> Result<User, AuthError> {
    let mut user = change.with_root_role();
    if user.password.is_empty() {
        let text = format!("Cannot create user {} with an empty password", user.name);
        return Err(AuthError::refused(StatusCode::BAD_REQUEST, text));
    }
    user.password = hashed(inner, &user.password).await?;
    let created = records::put_user(&inner.backend, &inner.auth, Op::Create, &user).await;
    match created {
        Err(error) if records::is(&error, ErrorCode::NodeExist) => {
            let text = format!("User {} already exists.", user.name);
            Err(AuthError::refused(StatusCode::CONFLICT, text))
        }
        created => created.map(|()| user),
    }
}

async fn update<B: TreeBackend>(inner: &Api<B>, change: &User) -> Result<User, AuthError> {
    let user = read_user(inner, &change.name).await?;
    let hash = match change.password.is_empty() {
        true => None,
        false => Some(hashed(inner, &change.password).await?),
    };
    let changed = user.changed(change, hash)?;
    if changed == user {
        let text = "User not updated. Use grant/revoke/password to update the user.";
        return Err(AuthError::refused(StatusCode::BAD_REQUEST, text.to_owned()));
    }
    records::put_user(&inner.backend, &inner.auth, Op::Update, &changed).await?;
    Ok(changed)
}

async fn delete<B: TreeBackend>(inner: &Api<B>, name: &str) -> Result<Response, AuthError> {
    if name == ROOT && records::is_enabled(&inner.backend) {
        let text = "Cannot delete root user while auth is enabled.".to_owned();
        return Err(AuthError::refused(StatusCode::FORBIDDEN, text));
    }
    match records::delete_user(&inner.backend, &inner.auth, name).await {
        Ok(()) => Ok(inner.answers.json(StatusCode::OK, Body::empty())),
        Err(error) if records::is(&error, ErrorCode::KeyNotFound) => {
            let text = format!("User {name} does not exist");
            Err(AuthError::refused(StatusCode::NOT_FOUND, text))
        }
        Err(error) => Err(error),
    }
}

async fn hashed<B>(inner: &Api<B>, password: &str) -> Result<String, AuthError> {
    Ok(inner.auth.passwords.hash(password).await?)
}

/// Writes a user with its complete roles.
fn write(out: &mut BytesMut, name: &str, roles: &[Role]) {
    out.extend_from_slice(b"{\"user\":");
    json::string(out, name.as_bytes());
    for (at, role) in roles.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b",\"roles\":[" } else { b"," });
        role.write(out);
    }
    if !roles.is_empty() {
        out.put_u8(b']');
    }
    out.put_u8(b'}');
}
