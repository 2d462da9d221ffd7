//! The operator's paths: `/health`, `/livez`, `/readyz`, `/metrics`, `/version`, `/debug/vars`,
//! `/debug/pprof/`, and `/members`, `/members/hashkv` and `/downgrade/enabled` on the peer port.

mod downgrade;
mod hash_kv;
mod health;
mod members;
mod metrics;
mod profile;
mod vars;
mod version;

use axum::Router;
use axum::routing::any;

use super::backend::Backend;
use super::calls::CallMetrics;

/// The routes of the client port, without a fallback, so that other routers can be merged in.
pub fn client_router<B: Backend>(backend: B, calls: CallMetrics) -> Router {
    let version = any(version::of_client::<B>).with_state((backend.clone(), calls.clone()));
    let vars = any(vars::vars::<B>).with_state(backend.clone());
    let profiles = match backend.serves_profiles() {
        true => profile::router(backend.clone()),
        false => Router::new(),
    };
    metrics_router(backend, calls)
        .route("/version", version)
        .route("/debug/vars", vars)
        .merge(profiles)
}

/// The routes of `--listen-metrics-urls`, without a fallback.
pub fn metrics_router<B: Backend>(backend: B, calls: CallMetrics) -> Router {
    let metrics = any(metrics::metrics::<B>).with_state((backend.clone(), calls.clone()));
    health::router(backend, calls).route("/metrics", metrics)
}

/// The routes of the peer port, without a fallback.
pub fn peer_router<B: Backend>(backend: B) -> Router {
    Router::new()
        .route("/version", any(version::version::<B>))
        .route("/members", any(members::members::<B>))
        .route("/downgrade/enabled", any(downgrade::enabled::<B>))
        .with_state(backend.clone())
        .merge(hash_kv::router(backend))
}
