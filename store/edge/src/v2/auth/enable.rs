//! `/v2/auth/enable`.

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode};
use keelson_proto::internal::tree_request::Op;

use super::model::{GUEST, ROOT, Role};
use super::{AuthError, records};
use crate::v2::Api;
use crate::v2::backend::TreeBackend;

pub(super) async fn serve<B: TreeBackend>(
    inner: &Api<B>,
    method: &Method,
) -> Result<Response, AuthError> {
    let enabled = records::is_enabled(&inner.backend);
    let body = match *method {
        Method::GET => Body::from(format!("{{\"enabled\":{enabled}}}\n")),
        Method::PUT => {
            enable(inner, enabled).await?;
            Body::empty()
        }
        _ => {
            disable(inner, enabled).await?;
            Body::empty()
        }
    };
    Ok(inner.answers.json(StatusCode::OK, body))
}

async fn enable<B: TreeBackend>(inner: &Api<B>, enabled: bool) -> Result<(), AuthError> {
    let conflict = |text: &str| AuthError::refused(StatusCode::CONFLICT, text.to_owned());
    if enabled {
        return Err(conflict("already enabled"));
    }
    let backend = &inner.backend;
    let has_root = backend.read_index().await.is_ok() && records::user(backend, ROOT).is_ok();
    if !has_root {
        return Err(conflict("No root user available, please create one"));
    }
    if records::role(backend, GUEST).is_err() {
        let guest = Role::of_all(GUEST);
        records::put_role(backend, &inner.auth, Op::Create, &guest).await?;
    }
    records::enable(backend, &inner.auth, true).await
}

async fn disable<B: TreeBackend>(inner: &Api<B>, enabled: bool) -> Result<(), AuthError> {
    if !enabled {
        let text = "already disabled".to_owned();
        return Err(AuthError::refused(StatusCode::CONFLICT, text));
    }
    records::enable(&inner.backend, &inner.auth, false).await
}
