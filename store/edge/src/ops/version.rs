//! `/version`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method};
use serde::Serialize;

use crate::backend::Backend;
use crate::calls::CallMetrics;
use crate::go;

#[derive(Serialize)]
struct VersionBody {
    etcdserver: String,
    etcdcluster: String,
    storage: String,
}

/// On the client port, where proxies check this member.
pub(super) async fn of_client<B: Backend>(
    method: Method,
    headers: HeaderMap,
    State((backend, calls)): State<(B, CallMetrics)>,
) -> Response {
    calls.proxied(&headers);
    version(method, State(backend)).await
}

pub(super) async fn version<B: Backend>(method: Method, State(backend): State<B>) -> Response {
    if let Err(refused) = go::only(&Method::GET, &method) {
        return refused.into_response();
    }
    let versions = backend.versions();
    let or = |version: Option<String>, otherwise: &str| version.unwrap_or(otherwise.to_owned());
    let body = VersionBody {
        etcdserver: versions.server,
        etcdcluster: or(versions.cluster, "not_decided"),
        storage: or(versions.storage, "unknown"),
    };
    go::json(serde_json::to_string(&body).expect("strings are JSON"))
}
