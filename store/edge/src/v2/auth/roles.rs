//! `/v2/auth/roles`.

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::request::Parts;
use http::{Method, StatusCode};
use keelson_core::tree::ErrorCode;
use keelson_proto::internal::tree_request::Op;

use super::model::{ROOT, Role};
use super::{AuthError, INVALID_JSON, bad_request, check_query, read_body, records};
use crate::v2::backend::TreeBackend;
use crate::v2::{Api, BoxError};

/// The list of all roles.
pub(super) fn list<B: TreeBackend>(inner: &Api<B>, parts: &Parts) -> Result<Response, AuthError> {
    let names = records::role_names(&inner.backend)?;
    check_query(parts)?;
    let mut out = BytesMut::with_capacity(256);
    out.extend_from_slice(b"{\"roles\":");
    for (at, name) in names.iter().enumerate() {
        out.put_u8(if at == 0 { b'[' } else { b',' });
        records::role(&inner.backend, name)?.write(&mut out);
    }
    out.extend_from_slice(b"]}\n");
    Ok(inner.answers.json(StatusCode::OK, out.freeze()))
}

/// Requests for one role.
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
        Method::GET => {
            let role = records::role(&inner.backend, name)?;
            Ok(shown(inner, StatusCode::OK, &role))
        }
        Method::PUT => put(inner, name, &read_body(inner, body).await?).await,
        _ => delete(inner, name).await,
    }
}

async fn put<B: TreeBackend>(
    inner: &Api<B>,
    name: &str,
    body: &[u8],
) -> Result<Response, AuthError> {
    let change = Role::parse(body).ok_or_else(|| bad_request(INVALID_JSON))?;
    if change.name != name {
        let text = "Role JSON name does not match the name in the URL";
        return Err(bad_request(text));
    }
    if !change.changes_permissions() {
        create(inner, &change).await?;
        return Ok(shown(inner, StatusCode::CREATED, &change));
    }
    if !change.permissions.is_empty() {
        let text = "Role JSON contains both permissions and grant/revoke";
        return Err(bad_request(text));
    }
    let changed = update(inner, &change).await?;
    Ok(shown(inner, StatusCode::OK, &changed))
}

async fn create<B: TreeBackend>(inner: &Api<B>, role: &Role) -> Result<(), AuthError> {
    check_changeable(&role.name)?;
    let created = records::put_role(&inner.backend, &inner.auth, Op::Create, role).await;
    match created {
        Err(error) if records::is(&error, ErrorCode::NodeExist) => {
            let text = format!("Role {} already exists.", role.name);
            Err(AuthError::refused(StatusCode::CONFLICT, text))
        }
        created => created,
    }
}

async fn update<B: TreeBackend>(inner: &Api<B>, change: &Role) -> Result<Role, AuthError> {
    check_changeable(&change.name)?;
    inner.backend.read_index().await?;
    let role = records::role(&inner.backend, &change.name)?;
    let changed = role.changed(change)?;
    if changed == role {
        let text = "Role not updated. Use grant/revoke to update the role.";
        return Err(AuthError::refused(StatusCode::BAD_REQUEST, text.to_owned()));
    }
    records::put_role(&inner.backend, &inner.auth, Op::Update, &changed).await?;
    Ok(changed)
}

async fn delete<B: TreeBackend>(inner: &Api<B>, name: &str) -> Result<Response, AuthError> {
    check_changeable(name)?;
    match records::delete_role(&inner.backend, &inner.auth, name).await {
        Ok(()) => Ok(inner.answers.json(StatusCode::OK, Body::empty())),
        Err(error) if records::is(&error, ErrorCode::KeyNotFound) => {
            let text = format!("Role {name} doesn't exist.");
            Err(AuthError::refused(StatusCode::NOT_FOUND, text))
        }
        Err(error) => Err(error),
    }
}

fn check_changeable(name: &str) -> Result<(), AuthError> {
    if name != ROOT {
        return Ok(());
    }
    let text = format!("Cannot modify role {name}: is root role.");
    Err(AuthError::refused(StatusCode::FORBIDDEN, text))
}

fn shown<B>(inner: &Api<B>, status: StatusCode, role: &Role) -> Response {
    let mut out = BytesMut::from(&role.to_json()[..]);
    out.put_u8(b'\n');
    inner.answers.json(status, out.freeze())
}
