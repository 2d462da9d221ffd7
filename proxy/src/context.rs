//! What all requests of a proxy share.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use keelson_port::Drain;
use tokio::sync::Semaphore;

use crate::config::ProxyConfig;
use crate::h2::{MemoryBudget, SharedWatches};
use crate::http1::client::Head;
use crate::http1::headers::{LOOP, PROXIED_BY};
use crate::metrics::Metrics;
use crate::policy::coarse_timer::CoarseTimer;
use crate::policy::endpoints::{self, Endpoints};
use crate::policy::mark::Mark;
use crate::policy::read_your_writes::HighWaterMark;
use crate::sockets::{Sockets, Watches};

/// Request bodies over HTTP/2 that are buffered at a time, of all clients together: three of the
/// largest.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The configuration and the state that requests share. It depends on no protocol and on no
/// service.
pub(crate) struct Context {
    pub(crate) config: ProxyConfig,
    /// Marks requests that this proxy has forwarded; random at every start.
    pub(crate) id: HeaderValue,
    pub(crate) endpoints: Endpoints,
    pub(crate) metrics: Metrics,
    pub(crate) high_water_mark: HighWaterMark,
    /// The highest Raft term that clients have received.
    pub(crate) raft_term: Arc<Mark>,
    pub(crate) coarse_timer: CoarseTimer,
    /// Bytes of request bodies over HTTP/2 that must be complete before they are forwarded.
    pub(crate) bodies: Arc<Semaphore>,
    /// Bytes of the fields of unanswered requests over HTTP/2.
    pub(crate) kept: MemoryBudget,
    /// Bytes of the bodies of calls, kept for another attempt.
    pub(crate) kept_bodies: MemoryBudget,
    /// Bytes that are kept to continue watches and keepalives on another member.
    pub(crate) kept_streams: MemoryBudget,
    /// Bytes of answers to calls that their clients have not read yet.
    pub(crate) unread: MemoryBudget,
    /// Watches of the v3 API that clients share.
    pub(crate) shared_watches: SharedWatches,
    /// Begins when the proxy shuts down; cuts watches that are not parked.
    pub(crate) drain: Drain,
    pub(crate) sockets: &'static Sockets,
    /// Watches of clients over HTTP/2.
    pub(crate) watches: Arc<Watches>,
}

impl Context {
    /// `own`: the proxy's own listeners, which are never members.
    pub(crate) fn new(config: ProxyConfig, own: Vec<SocketAddr>) -> Context {
        let id = format!("{:016x}", endpoints::random());
        Context {
            endpoints: Endpoints::new(own, config.client_tls.clone()),
            high_water_mark: HighWaterMark::new(config.catch_up),
            raft_term: Arc::new(Mark::new(config.catch_up)),
            config,
            id: HeaderValue::from_str(&id).expect("hex digits"),
            metrics: Metrics::default(),
            coarse_timer: CoarseTimer::default(),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
            kept: MemoryBudget::default(),
            kept_bodies: MemoryBudget::default(),
            kept_streams: MemoryBudget::default(),
            unread: MemoryBudget::default(),
            shared_watches: SharedWatches::default(),
            drain: Drain::default(),
            sockets: Sockets::of_process(),
            watches: Arc::new(Watches::new(Sockets::of_process())),
        }
    }

    /// Whether this proxy has forwarded a request with these headers before.
    pub(crate) fn has_seen(&self, headers: &http::HeaderMap) -> bool {
        let mut seen = headers.get_all(PROXIED_BY).iter();
        seen.any(|id| *id == self.id)
    }

    /// Whether an answer is this proxy's own refusal of a loop: the member's URL leads back here.
    pub(crate) fn leads_back(&self, head: &Head) -> bool {
        head.status == http::StatusCode::LOOP_DETECTED
            && head.headers().get(LOOP).is_some_and(|id| *id == self.id)
    }
}
