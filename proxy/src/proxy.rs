//! A proxy at work: who answers which request, and its life from start to end.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use keelson_port::{
    Drain, FastPath, FastPathAnswer, Http2Connection, Incoming, Listener, Parking, Serve, Serving,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::answers::{self, Refusal};
use crate::body::AnswerBody;
use crate::config::{MembersFrom, ProxyConfig};
use crate::endpoints::{self, Endpoints};
use crate::h2;
use crate::headers::PROXIED_BY;
use crate::http1;
use crate::members::{self, Peers};
use crate::metrics::Metrics;
use crate::mode::Mode;
use crate::newest::Newest;
use crate::own;
use crate::plain;
use crate::pulse::Pulse;
use crate::request::{self, Draft, Origin, Subject};
use crate::role::{ClusterFile, Lock, RoleError};
use crate::sockets::{Sockets, Waits};
use crate::wait::{self, Wait};

/// Of all clients together; three of the largest.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What all requests share.
pub(crate) struct Proxy {
    pub(crate) config: ProxyConfig,
    /// Its mark on requests; another one at every start.
    pub(crate) id: HeaderValue,
    pub(crate) endpoints: Endpoints,
    pub(crate) metrics: Metrics,
    pub(crate) newest: Newest,
    pub(crate) pulse: Pulse,
    /// Bytes that may be held of bodies that come over HTTP/2 and must be whole before they can be
    /// passed on.
    pub(crate) bodies: Arc<Semaphore>,
    /// What is kept of requests over HTTP/2 that are not answered.
    pub(crate) kept: h2::Kept,
    /// Of bodies of calls, to send them again.
    pub(crate) kept_bodies: h2::Kept,
    /// Of answers to calls that their clients do not read for now.
    pub(crate) unread: h2::Kept,
    /// Begins with the end of the proxy; cuts waits that are not parked.
    pub(crate) drain: Drain,
    pub(crate) sockets: &'static Sockets,
    /// Of clients over HTTP/2.
    pub(crate) waits: Arc<Waits>,
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

/// Serves on `listeners` until `shutdown`. `ready` is called when it begins, as etcd's proxy notifies
/// systemd when it listens: whether members are known is another matter.
pub async fn serve(
    config: ProxyConfig,
    listeners: Vec<impl Into<Listener>>,
    ready: impl FnOnce() + Send + 'static,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ProxyError> {
    let listeners = listeners.into_iter().map(Into::into).collect();
    serve_boxed(config, listeners, Box::new(ready), Box::pin(shutdown)).await
}

/// The same without type parameters: so all that a proxy runs is compiled in this crate and lies
/// together in the executable, and not scattered among what only members run. It is the larger part
/// of what an idle proxy holds in memory.
fn serve_boxed<'a>(
    config: ProxyConfig,
    listeners: Vec<Listener>,
    ready: Box<dyn FnOnce() + Send>,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
) -> Pin<Box<dyn Future<Output = Result<(), ProxyError>> + Send + 'a>> {
    Box::pin(live(config, listeners, ready, shutdown))
}

async fn live(
    config: ProxyConfig,
    listeners: Vec<Listener>,
    ready: Box<dyn FnOnce() + Send>,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send + '_>>,
) -> Result<(), ProxyError> {
    let peers = peers(&config)?;
    let _lock = config.data_dir.as_deref().map(Lock::take).transpose()?;
    let own = listeners.iter().map(|one| one.socket.local_addr());
    let own: io::Result<Vec<_>> = own.filter_map(io::Result::transpose).collect();
    let (limits, expected) = (config.limits.clone(), config.members_expected);
    let (trigger, drain) = Drain::channel();
    let proxy = Arc::new(Proxy {
        drain,
        ..Proxy::new(config, own?)
    });
    if expected || peers.as_ref().is_some_and(Peers::are_kept) {
        proxy.endpoints.expect_members();
    }
    ready();
    let mut keeper = Box::pin(members::keep(Arc::clone(&proxy), peers));
    let beating = Arc::clone(&proxy);
    let mut pulse = Box::pin(async move { beating.pulse.run().await });
    let mut serving = std::pin::pin!(keelson_port::serve(
        listeners,
        Service(proxy),
        limits,
        async move {
            shutdown.await;
            trigger.begin();
        }
    ));
    tokio::select! {
        () = &mut keeper => unreachable!("members are kept for ever"),
        () = &mut pulse => unreachable!("it beats for ever"),
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
        MembersFrom::Peers(urls) => {
            Peers::new(urls.clone(), file, config.peer_tls.clone()).map(Some)
        }
        MembersFrom::Clients(_) => Ok(None),
    }
}

/// An answer on its way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

/// What the port serves.
struct Service(Arc<Proxy>);

impl Serve for Service {
    type Body = AnswerBody;
    type Future = Answering;

    fn fast_path<'a>(
        &'a self,
        connection: FastPath<'a>,
    ) -> Result<FastPathAnswer<'a>, FastPath<'a>> {
        Ok(plain::serve(&self.0, connection))
    }

    fn serve_http2<'a>(
        &'a self,
        connection: Http2Connection<'a>,
    ) -> Result<Serving<'a>, Http2Connection<'a>> {
        Ok(Box::pin(h2::serve(Arc::clone(&self.0), connection)))
    }

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.call_from(request, SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// What can be said without waiting is said here, so that the future, one a request, holds no
    /// more than it needs.
    fn call_from(&self, request: Request<Incoming>, client: SocketAddr) -> Self::Future {
        let proxy = Arc::clone(&self.0);
        match proxy.own_answer(request.method(), request.uri().path()) {
            Some(answer) => Box::pin(ready(Ok(answer))),
            None => forward(proxy, request, client),
        }
    }
}

/// Has some member answer.
fn forward(proxy: Arc<Proxy>, request: Request<Incoming>, client: SocketAddr) -> Answering {
    let subject = Subject::of(request.uri().path());
    let asked = Asked::new(&proxy, request.method(), subject);
    if proxy.has_seen(request.headers()) {
        return Box::pin(ready(Ok(asked.answered(&proxy, Err(Refusal::Loop)))));
    }
    let (mut parts, body) = request.into_parts();
    if request::is_too_large(&parts) {
        return Box::pin(ready(Ok(answers::too_large())));
    }
    let parking = parts.extensions.remove::<Parking>();
    let id = &proxy.id;
    let origin = Origin { client, id };
    if let Some(wait) = Wait::of(&parts, origin) {
        return Box::pin(async move {
            let answer = wait::forward(&proxy, wait, parking, None).await;
            Ok(asked.answered(&proxy, answer))
        });
    }
    let draft = Draft::new(&parts, body, origin);
    Box::pin(async move {
        let answer = http1::forward(&proxy, draft).await;
        Ok(asked.answered(&proxy, answer))
    })
}

/// What is counted of a request, and what its errors look like.
pub(crate) struct Asked {
    method: Method,
    /// Its errors are those of the v2 keys.
    keys: bool,
    began: Instant,
}

impl Asked {
    pub(crate) fn new(proxy: &Proxy, method: &Method, subject: Subject) -> Asked {
        proxy.metrics.request(method);
        Asked {
            method: method.clone(),
            keys: subject == Subject::Keys,
            began: Instant::now(),
        }
    }

    /// What the client gets.
    pub(crate) fn answered(
        self,
        proxy: &Proxy,
        answer: Result<Response<AnswerBody>, Refusal>,
    ) -> Response<AnswerBody> {
        match answer {
            Ok(response) => {
                self.handled(proxy, response.status());
                response
            }
            Err(refusal) => self.refused(proxy, refusal),
        }
    }

    /// A member answers.
    pub(crate) fn handled(self, proxy: &Proxy, status: StatusCode) {
        let took = self.began.elapsed();
        proxy.metrics.handled(&self.method, status, took);
    }

    /// No member does.
    pub(crate) fn refused(self, proxy: &Proxy, refusal: Refusal) -> Response<AnswerBody> {
        proxy.metrics.dropped(&self.method, refusal);
        refusal.response(self.keys, &proxy.id)
    }
}

impl Proxy {
    pub(crate) fn new(config: ProxyConfig, own: Vec<SocketAddr>) -> Proxy {
        let id = format!("{:016x}", endpoints::random());
        Proxy {
            endpoints: Endpoints::new(own, config.client_tls.clone()),
            newest: Newest::new(config.catch_up),
            config,
            id: HeaderValue::from_str(&id).expect("hex digits"),
            metrics: Metrics::default(),
            pulse: Pulse::default(),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
            kept: h2::Kept::default(),
            kept_bodies: h2::Kept::default(),
            unread: h2::Kept::default(),
            drain: Drain::default(),
            sockets: Sockets::of_process(),
            waits: Arc::new(Waits::new(Sockets::of_process())),
        }
    }

    /// What no member is asked for.
    pub(crate) fn own_answer(&self, method: &Method, path: &str) -> Option<Response<AnswerBody>> {
        if self.config.mode == Mode::ReadOnly && method != Method::GET {
            return Some(answers::empty(StatusCode::NOT_IMPLEMENTED));
        }
        own::answer(self, method, path)
    }

    /// Whether a request has come through this proxy before.
    pub(crate) fn has_seen(&self, headers: &http::HeaderMap) -> bool {
        let mut seen = headers.get_all(PROXIED_BY).iter();
        seen.any(|id| *id == self.id)
    }
}
