//! A proxy at work: who answers which request, and its life from start to end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use keelson_port::{Parking, Serve};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::answers::{self, Refusal};
use crate::body::AnswerBody;
use crate::config::{MembersFrom, ProxyConfig};
use crate::endpoints::{self, Endpoints};
use crate::headers::PROXIED_BY;
use crate::http1;
use crate::http2;
use crate::members::{self, Peers};
use crate::metrics::Metrics;
use crate::mode::Mode;
use crate::own;
use crate::request::{Gone, Origin, Outgoing};
use crate::role::{ClusterFile, RoleError};
use crate::wait;

/// What all requests share.
pub(crate) struct Proxy {
    pub(crate) config: ProxyConfig,
    /// Its mark on requests; another one at every start.
    pub(crate) id: HeaderValue,
    pub(crate) endpoints: Endpoints,
    pub(crate) metrics: Metrics,
}

/// A proxy that could not start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The data directory is another role's, or cannot be used.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A listener failed.
    #[error("cannot listen: {0}")]
    Listener(#[from] io::Error),
}

/// Serves on `listeners` until `shutdown`. `ready` is called once members are known; requests are
/// served, and held, before that.
pub async fn serve(
    config: ProxyConfig,
    listeners: Vec<TcpListener>,
    ready: impl FnOnce() + Send + 'static,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ProxyError> {
    let peers = peers(&config)?;
    let own: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
    let limits = config.limits.clone();
    let proxy = Arc::new(Proxy::new(config, own?));
    let mut keeper = Box::pin(members::keep(Arc::clone(&proxy), peers, ready));
    let mut serving = std::pin::pin!(keelson_port::serve(
        listeners,
        Service(proxy),
        limits,
        shutdown
    ));
    tokio::select! {
        () = &mut keeper => unreachable!("members are kept for ever"),
        served = &mut serving => Ok(served?),
    }
}

/// Makes the host a proxy, where there is a directory for it.
fn peers(config: &ProxyConfig) -> Result<Option<Peers>, RoleError> {
    let file = config
        .data_dir
        .as_deref()
        .map(ClusterFile::open)
        .transpose()?;
    match &config.members {
        MembersFrom::Peers(urls) => Peers::new(urls.clone(), file).map(Some),
        MembersFrom::Clients(_) => Ok(None),
    }
}

/// What the port serves.
struct Service(Arc<Proxy>);

impl Serve for Service {
    type Body = AnswerBody;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.call_from(request, SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    fn call_from(&self, request: Request<Incoming>, client: SocketAddr) -> Self::Future {
        let proxy = Arc::clone(&self.0);
        Box::pin(async move { Ok(proxy.answer(request, client).await) })
    }
}

impl Proxy {
    pub(crate) fn new(config: ProxyConfig, own: Vec<SocketAddr>) -> Proxy {
        let id = format!("{:016x}", endpoints::random());
        Proxy {
            config,
            id: HeaderValue::from_str(&id).expect("hex digits"),
            endpoints: Endpoints::new(own),
            metrics: Metrics::default(),
        }
    }

    async fn answer(
        self: Arc<Proxy>,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> Response<AnswerBody> {
        if is_call(&request) {
            return http2::forward(&self, request, client).await;
        }
        if self.config.mode == Mode::ReadOnly && request.method() != Method::GET {
            return answers::empty(StatusCode::NOT_IMPLEMENTED);
        }
        if let Some(answer) = own::answer(&self, request.method(), request.uri().path()) {
            return answer;
        }
        self.metrics.request(request.method());
        let began = Instant::now();
        let method = request.method().clone();
        let keys = crate::request::is_keys(request.uri().path());
        match self.forward(request, client).await {
            Ok(response) => {
                self.metrics
                    .handled(&method, response.status(), began.elapsed());
                response
            }
            Err(refusal) => {
                self.metrics.dropped(&method, refusal);
                refusal.response(keys, &self.id)
            }
        }
    }

    async fn forward(
        self: &Arc<Proxy>,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> Result<Response<AnswerBody>, Refusal> {
        if self.has_seen(request.headers()) {
            return Err(Refusal::Loop);
        }
        let (mut parts, body) = request.into_parts();
        let parking = parts.extensions.remove::<Parking>();
        if let Some(wait) = wait::Wait::of(&parts) {
            return wait::forward(self, wait, parts, client, parking).await;
        }
        let id = &self.id;
        let outgoing = Outgoing::new(&parts, body, Origin { client, id }).await;
        let outgoing = outgoing.map_err(|Gone| Refusal::Client)?;
        http1::forward(self, outgoing).await
    }

    /// Whether a request has come through this proxy before.
    pub(crate) fn has_seen(&self, headers: &http::HeaderMap) -> bool {
        let mut seen = headers.get_all(PROXIED_BY).iter();
        seen.any(|id| *id == self.id)
    }
}

/// gRPC. Other requests over HTTP/2 are forwarded over HTTP/1.1, which all members speak.
fn is_call(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
