//! The client edge: one port for gRPC and HTTP.
//!
//! Connections are `keelson-port`'s. Requests are split between gRPC and HTTP (`service`),
//! parsed, and passed to the member behind `Backend`, or `v2::TreeBackend` for the v2 API. One
//! table maps errors to the wire (`errors`). The edge depends on neither consensus nor storage:
//! `clippy.toml` beside it holds this.

pub mod account;
mod backend;
mod calls;
mod error;
pub mod errors;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod gateway;
mod go;
mod large;
pub mod ops;
mod passwords;
mod rates;
mod service;
#[cfg(test)]
mod tests;
mod traces;
mod turns;
pub mod v2;
pub mod v3;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tonic::service::Routes;

pub use backend::{Backend, LateAnswer, NoAnswer, RaftStatus, Versions};
pub use calls::CallMetrics;
pub use error::Error;
pub use gate::Gate;
pub use keelson_port::{
    Access, AllowedNames, CertificateEnd, Drain, DrainTrigger, Limits, Listener, ParametersError,
    Parkable, Parked, ServerTls, TlsError, TlsFiles, TlsParameters, certificate_ends, has_files,
    park, reload_files, warn_of_certificate_ends,
};
pub use rates::{RateLimit, RateLimits, Rates};
pub use service::{GrpcService, Intercepted, Interceptor, PortServices};
pub use traces::{BATCH_SPANS, Tracer};
pub use v3::auth::{JwtError, JwtHash, JwtKeys, JwtMethod};
pub use v3::{SeenTokens, TokenSignature, Unread};

/// What a member's own program waits with: places in queues, and watchers. It is for the store, and
/// no part of the library's interface.
#[doc(hidden)]
pub mod waiting {
    pub use crate::v3::{Leaders, Place, Queue, Taken, Watchers, take};
}

/// What is served beside the v3 API and the operator's paths.
#[derive(Default)]
pub struct More<F> {
    /// Additional gRPC services.
    pub routes: Routes,
    /// Additional HTTP routes.
    pub router: Router,
    /// Receives HTTP requests before all routers.
    pub interceptor: F,
    /// Opened when the member is ready; without a gate, every request is served at once.
    pub gate: Option<Gate>,
    /// The memory budget for large answers of the v3 API.
    pub unread: Unread,
    /// The counts of gRPC calls, for `/metrics`.
    pub calls: CallMetrics,
    /// Makes the spans of gRPC calls.
    pub tracer: Option<Tracer>,
    /// The limits of rate for connections and users.
    pub rates: Rates,
}

/// Serves a member's client port: the v3 services, the operator's paths, and the additions.
/// `Drain` ends the long requests of the additions at the shutdown.
pub async fn serve_clients<B: Backend, F: Interceptor>(
    backend: B,
    listeners: Vec<impl Into<Listener>>,
    limits: Limits,
    more: impl FnOnce(&Drain) -> More<F>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (trigger, drain) = Drain::channel();
    let More {
        routes,
        router,
        interceptor,
        gate,
        unread,
        calls,
        tracer,
        rates,
    } = more(&drain);
    let gate_drain = drain.clone();
    let grpc = v3::Services::new(
        backend.clone(),
        unread,
        calls.clone(),
        routes,
        drain.clone(),
    )
    .traced(tracer)
    .limited(rates.clone());
    let monitor = grpc.monitor();
    let grpc = Arc::new(grpc);
    let http = ops::client_router(backend, calls)
        .merge(gateway::router(Arc::clone(&grpc)))
        .merge(router)
        .fallback(gateway::not_found)
        .layer(axum::middleware::from_fn(go::cors));
    let begin = async {
        shutdown.await;
        trigger.begin();
    };
    let services = PortServices::limited(grpc, interceptor, http, rates);
    let services = match gate {
        Some(gate) => services.behind(gate, gate_drain),
        None => services,
    };
    tokio::select! {
        served = keelson_port::serve(listeners, services, limits, begin) => served,
        never = monitor => match never {},
    }
}

/// Serves `--listen-metrics-urls`: `/metrics` and the probes.
pub async fn serve_metrics<B: Backend>(
    backend: B,
    calls: CallMetrics,
    listeners: Vec<impl Into<Listener>>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let http = ops::metrics_router(backend, calls).fallback(gateway::not_found);
    let services = PortServices::new(Routes::default().prepare(), (), http);
    keelson_port::serve(listeners, services, limits, shutdown).await
}

/// Serves the peer port of a host that has not founded its member yet.
pub async fn serve_founder(
    listeners: Vec<impl Into<Listener>>,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let limits = Limits {
        drain_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let http = Router::new().fallback(gateway::not_found);
    let services = PortServices::new(routes.prepare(), (), http);
    keelson_port::serve(listeners, services, limits, shutdown).await
}

/// Serves a member's peer port: the peer services, the paths for joining members and scripts, and
/// the additions. Cross-origin requests are not allowed there.
pub async fn serve_peers<B: Backend>(
    backend: B,
    listeners: Vec<impl Into<Listener>>,
    limits: Limits,
    routes: Routes,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let http = ops::peer_router(backend)
        .merge(router)
        .fallback(gateway::not_found);
    let services = PortServices::new(routes.prepare(), (), http);
    keelson_port::serve(listeners, services, limits, shutdown).await
}
