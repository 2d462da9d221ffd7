//! The operator's paths: `/health`, `/livez`, `/readyz`, `/version`, `/debug/vars`, and
//! `/members` on the peer port.

mod health;
mod members;
mod vars;
mod version;

use axum::Router;
use axum::routing::any;

use super::backend::Backend;

/// The routes of the client port, without a fallback, so that other routers can be merged in.
pub fn client_router<B: Backend>(backend: B) -> Router {
    let version = any(version::version::<B>).with_state(backend.clone());
    let vars = any(vars::vars::<B>).with_state(backend.clone());
    health::router(backend)
        .route("/version", version)
        .route("/debug/vars", vars)
}

/// The routes of the peer port, without a fallback.
pub fn peer_router<B: Backend>(backend: B) -> Router {
    Router::new()
        .route("/version", any(version::version::<B>))
        .route("/members", any(members::members::<B>))
        .with_state(backend)
}
