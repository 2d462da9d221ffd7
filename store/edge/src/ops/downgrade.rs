//! `/downgrade/enabled` on the peer port: whether a downgrade is in progress.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};

use super::members;
use crate::backend::Backend;
use crate::go;

pub(super) async fn enabled<B: Backend>(method: Method, State(backend): State<B>) -> Response {
    let mut response = match go::only(&Method::GET, &method) {
        Err(refused) => refused,
        Ok(()) => answer(&backend).await,
    };
    members::add_cluster_id(&mut response, backend.cluster_id());
    response
}

async fn answer(backend: &impl Backend) -> Response {
    if let Err(error) = backend.read_index().await {
        let text = format!("failed linearized read: {error}");
        return go::plain(StatusCode::INTERNAL_SERVER_ERROR, &text);
    }
    let info = backend.status().downgrade_info;
    let enabled = info.is_some_and(|info| info.enabled);
    ([(CONTENT_TYPE, "text/plain")], enabled.to_string()).into_response()
}
