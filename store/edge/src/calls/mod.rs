//! The metrics of gRPC calls: go-grpc-prometheus's names and labels, and etcd's bytes. Beside them
//! the counts of probes and of requests for v2 keys.
//!
//! A call costs a few atomic additions, and a shared lock if its client names a version. Its
//! messages are counted in its bodies (`body`), its status where the answer has it.

mod body;
mod checks;
mod clients;
mod keys;
mod methods;
mod proxies;
mod rates;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::HeaderMap;
use keelson_port::metrics::Histogram;
use tonic::{Code, Status};

use crate::rates::Meter;

pub(crate) use body::{CallBody, CountedRequest};
use checks::Checks;
use clients::ClientVersions;
pub(crate) use keys::{COUNTED, Counted, KeyCounts};
use methods::METHODS;
pub(crate) use methods::Method;
use proxies::SeenProxies;
pub(crate) use rates::RateCounts;

use crate::traces::ServerSpan;

/// gRPC's status codes, with the names that Go's have.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// `Canceled`: the client has gone before the end of its call.
const CANCELED: usize = 1;
const UNKNOWN: usize = 2;

/// The counts of a member's gRPC calls and probes. Clones share them.
#[derive(Clone)]
pub struct CallMetrics(Arc<Counts>);

struct Counts {
    methods: Vec<MethodCounts>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    healthy: AtomicU64,
    unhealthy: AtomicU64,
    versions: ClientVersions,
    checks: Checks,
    keys: KeyCounts,
    rates: RateCounts,
    proxies: SeenProxies,
}

/// The counts of a method.
#[derive(Default)]
struct MethodCounts {
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    received: AtomicU64,
    sent: AtomicU64,
    /// The durations; only with `--metrics=extensive`.
    durations: Option<Histogram>,
}

impl CallMetrics {
    /// Zero for every method. `extensive` adds the durations of calls.
    #[must_use]
    pub fn new(extensive: bool) -> CallMetrics {
        let counts = || MethodCounts {
            durations: extensive.then(Histogram::of_requests),
            ..MethodCounts::default()
        };
        CallMetrics(Arc::new(Counts {
            methods: METHODS.iter().map(|_| counts()).collect(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            healthy: AtomicU64::new(0),
            unhealthy: AtomicU64::new(0),
            versions: ClientVersions::default(),
            checks: Checks::default(),
            keys: KeyCounts::default(),
            rates: RateCounts::default(),
            proxies: SeenProxies::default(),
        }))
    }

    /// Counts a call that a client makes, by the version that its metadata names.
    pub(crate) fn begin_of(&self, method: Method, headers: &HeaderMap) -> CallCount {
        self.0.versions.count(headers, method.is_stream());
        self.begin(method)
    }

    /// Counts a check of `/livez` or `/readyz`.
    pub(crate) fn checked(&self, kind: &'static str, name: &'static str, succeeded: bool) {
        self.0.checks.note(kind, name, succeeded);
    }

    /// Notes the proxy that a request has come from, if it has.
    pub(crate) fn proxied(&self, headers: &HeaderMap) {
        self.0.proxies.note(headers, Instant::now());
    }

    /// The counts of requests for v2 keys.
    pub(crate) fn keys(&self) -> &KeyCounts {
        &self.0.keys
    }

    /// The counts of what was over a limit of rate.
    pub(crate) fn rates(&self) -> &RateCounts {
        &self.0.rates
    }

    /// Counts the beginning of a call.
    pub(crate) fn begin(&self, Method(method): Method) -> CallCount {
        let counts = &self.0.methods[method];
        counts.started.fetch_add(1, Ordering::Relaxed);
        CallCount {
            calls: self.clone(),
            method,
            began: counts.durations.is_some().then(Instant::now),
            ended: false,
            span: None,
        }
    }

    /// The same call's requests, which `meter` charges if it is a stream's.
    pub(crate) fn count_requests<R>(
        &self,
        of: Option<Method>,
        body: R,
        meter: Option<Box<Meter>>,
    ) -> CountedRequest<R> {
        let to = of.map(|Method(method)| (self.clone(), method));
        CountedRequest::new(body, to, meter)
    }

    /// Counts an answer of `/health`.
    pub(crate) fn probed(&self, healthy: bool) {
        let count = match healthy {
            true => &self.0.healthy,
            false => &self.0.unhealthy,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn received(&self, method: usize, messages: u64, bytes: u64) {
        let received = &self.0.methods[method].received;
        received.fetch_add(messages, Ordering::Relaxed);
        self.0.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A call that has begun. Dropped before its end, it was cancelled.
pub(crate) struct CallCount {
    calls: CallMetrics,
    method: usize,
    began: Option<Instant>,
    ended: bool,
    /// The call's span, if it is sampled.
    span: Option<Box<ServerSpan>>,
}

impl CallCount {
    fn counts(&self) -> &MethodCounts {
        &self.calls.0.methods[self.method]
    }

    fn sent(&self, messages: u64, bytes: u64) {
        self.counts().sent.fetch_add(messages, Ordering::Relaxed);
        let sent_bytes = &self.calls.0.sent_bytes;
        sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The call has a span, which ends with it.
    pub(crate) fn traced(&mut self, span: ServerSpan) {
        self.span = Some(Box::new(span));
    }

    /// Ends the call with the status in its headers or trailers.
    fn end(&mut self, headers: &HeaderMap) {
        let status = headers.get(Status::GRPC_STATUS);
        let code = status.and_then(|value| value.to_str().ok()?.parse().ok());
        let code = code.filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN);
        if let Some(span) = self.span.take() {
            let status = Status::from_header_map(headers);
            let message = status.as_ref().map_or("", Status::message);
            span.end(Code::from(i32::try_from(code).unwrap_or_default()), message);
        }
        self.end_with(code);
    }

    fn end_with(&mut self, code: usize) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let counts = self.counts();
        counts.handled[code].fetch_add(1, Ordering::Relaxed);
        if let (Some(durations), Some(began)) = (&counts.durations, self.began) {
            durations.observe(began.elapsed());
        }
    }
}

impl Drop for CallCount {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            span.end(Code::Cancelled, "");
        }
        self.end_with(CANCELED);
    }
}

/// Without durations.
impl Default for CallMetrics {
    fn default() -> CallMetrics {
        CallMetrics::new(false)
    }
}

#[cfg(test)]
mod tests;
