//! The log line of a slow request: etcd's `request stats` (`api/v3rpc/interceptor.go`).

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use keelson_port::http2::RateLimit;
use parking_lot::Mutex;
use prost::Message as _;
use tonic::{Response, Status};
use tracing::warn;

use super::content::{KeptRequest, LoggedRequest};
use crate::account::client;
use crate::v2::json;

/// Lines a second. A slow disk makes every request slow.
const LINES_MAX: u32 = 10;

/// A count or a size that is not known, as in etcd.
const UNKNOWN: i64 = -1;

/// The log of slow requests. Clones share its limit.
#[derive(Clone)]
pub(crate) struct SlowLog(Arc<SlowLogState>);

struct SlowLogState {
    /// A request is slow from here on.
    threshold: Duration,
    lines: Mutex<RateLimit>,
    suppressed: AtomicU64,
}

/// A call without a description of its request. As in etcd, one that is cancelled ends as well.
pub(super) struct SlowCall(Option<Begun<SlowLog>>);

/// A request with its description. As in etcd, one that is cancelled ends as well.
pub(super) struct SlowRequest<'a, Q: LoggedRequest> {
    /// `None` after the end.
    begun: Option<(Begun<&'a SlowLog>, KeptRequest)>,
    _request: PhantomData<fn() -> Q>,
}

/// The beginning of a call.
struct Begun<L> {
    log: L,
    method: &'static str,
    at: Instant,
    client: Option<SocketAddr>,
}

/// What the line has about a request and its answer.
struct RequestStats {
    request_count: i64,
    request_size: i64,
    response_count: i64,
    response_size: i64,
    content: String,
}

impl SlowLog {
    pub(crate) fn new(threshold: Duration) -> SlowLog {
        SlowLog(Arc::new(SlowLogState {
            threshold,
            lines: Mutex::default(),
            suppressed: AtomicU64::new(0),
        }))
    }

    /// Begins a call. `None` for streams, and for the methods whose handlers describe their
    /// requests.
    pub(super) fn begin(&self, method: &str) -> Option<SlowCall> {
        Some(SlowCall(Some(Begun::now(
            self.clone(),
            undescribed(method)?,
        ))))
    }

    /// Begins a request that is described.
    pub(super) fn request<Q: LoggedRequest>(
        &self,
        method: &'static str,
        request: &Q,
    ) -> SlowRequest<'_, Q> {
        SlowRequest {
            begun: Some((Begun::now(self, method), KeptRequest::of(request))),
            _request: PhantomData,
        }
    }

    /// The number of lines that were left out since the last one; `None` if this one is.
    fn admit_line(&self) -> Option<u64> {
        if self.0.lines.lock().exceeds(LINES_MAX) {
            self.0.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.0.suppressed.swap(0, Ordering::Relaxed))
    }
}

impl<L: Borrow<SlowLog>> Begun<L> {
    fn now(log: L, method: &'static str) -> Begun<L> {
        Begun {
            log,
            method,
            at: Instant::now(),
            client: client(),
        }
    }

    /// Logs the call if it was slow.
    fn end(self, stats: impl FnOnce() -> RequestStats) {
        let spent = self.at.elapsed();
        let log = self.log.borrow();
        if spent < log.0.threshold {
            return;
        }
        let Some(suppressed) = log.admit_line() else {
            return;
        };
        let stats = stats();
        let remote = self.client.map_or_else(
            || "No remote client info.".to_owned(),
            |client| client.to_string(),
        );
        warn!(
            "start time" = time_text(SystemTime::now() - spent),
            "time spent" = format_args!("{spent:?}"),
            remote,
            "response type" = self.method,
            "request count" = stats.request_count,
            "request size" = stats.request_size,
            "response count" = stats.response_count,
            "response size" = stats.response_size,
            "request content" = stats.content,
            suppressed,
            "request stats"
        );
    }
}

impl SlowCall {
    /// Logs the call if it was slow.
    pub(super) fn end(&mut self) {
        let Some(begun) = self.0.take() else { return };
        begun.end(|| RequestStats {
            request_count: UNKNOWN,
            request_size: UNKNOWN,
            response_count: UNKNOWN,
            response_size: UNKNOWN,
            content: String::new(),
        });
    }
}

impl Drop for SlowCall {
    fn drop(&mut self) {
        self.end();
    }
}

impl<Q: LoggedRequest> SlowRequest<'_, Q> {
    /// Logs the request if it was slow.
    pub(super) fn end(mut self, answer: &Result<Response<Q::Answer>, Status>) {
        self.log(answer.as_ref().ok().map(Response::get_ref));
    }

    fn log(&mut self, answer: Option<&Q::Answer>) {
        let Some((begun, kept)) = self.begun.take() else {
            return;
        };
        let size = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        begun.end(|| {
            let described = kept.described::<Q>(answer);
            RequestStats {
                request_count: described.request_count,
                request_size: size(described.request_size),
                response_count: described.response_count,
                response_size: answer.map_or(0, |answer| size(answer.encoded_len())),
                content: described.content,
            }
        });
    }
}

impl<Q: LoggedRequest> Drop for SlowRequest<'_, Q> {
    fn drop(&mut self) {
        self.log(None);
    }
}

/// RFC 3339.
fn time_text(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut out = BytesMut::new();
    json::time(
        &mut out,
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
    );
    String::from_utf8_lossy(&out).into_owned()
}

/// The name of a method with one answer whose request is not described.
fn undescribed(method: &str) -> Option<&'static str> {
    const METHODS: [&str; 16] = [
        "/etcdserverpb.KV/Compact",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Lease/LeaseRevoke",
        "/etcdserverpb.Lease/LeaseTimeToLive",
        "/etcdserverpb.Lease/LeaseLeases",
        "/etcdserverpb.Cluster/MemberAdd",
        "/etcdserverpb.Cluster/MemberRemove",
        "/etcdserverpb.Cluster/MemberUpdate",
        "/etcdserverpb.Cluster/MemberList",
        "/etcdserverpb.Cluster/MemberPromote",
        "/etcdserverpb.Maintenance/Alarm",
        "/etcdserverpb.Maintenance/Status",
        "/etcdserverpb.Maintenance/Defragment",
        "/etcdserverpb.Maintenance/Hash",
        "/etcdserverpb.Maintenance/HashKV",
        "/etcdserverpb.Maintenance/MoveLeader",
    ];
    // The most frequent requests are none of these.
    match method.strip_prefix("/etcdserverpb.KV/") {
        Some(kv) if kv != "Compact" => None,
        _ => METHODS.into_iter().find(|known| *known == method),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use keelson_proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    type Line = BTreeMap<String, String>;

    /// The log lines of this thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<Line>>>);

    struct Fields(Line);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.insert(field.name().to_owned(), format!("{value:?}"));
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            self.0.insert(field.name().to_owned(), value.to_owned());
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _span: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _span: &Id, _values: &Record<'_>) {}

        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields(Line::new());
            event.record(&mut fields);
            self.0.lock().push(fields.0);
        }

        fn enter(&self, _span: &Id) {}

        fn exit(&self, _span: &Id) {}
    }

    fn logged(log: &SlowLog, act: impl FnOnce(&SlowLog)) -> Vec<Line> {
        let lines = Lines::default();
        tracing::subscriber::with_default(lines.clone(), || act(log));
        std::mem::take(&mut *lines.0.lock())
    }

    #[test]
    fn a_slow_request_is_logged_with_etcds_fields() {
        let log = SlowLog::new(Duration::ZERO);
        let lines = logged(&log, |log| {
            let put = PutRequest {
                key: "a".into(),
                value: "secret".into(),
                ..Default::default()
            };
            let slow = log.request("/etcdserverpb.KV/Put", &put);
            slow.end(&Ok(Response::new(PutResponse::default())));
        });
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        let expected = [
            ("message", "request stats"),
            ("remote", "No remote client info."),
            ("response type", "/etcdserverpb.KV/Put"),
            ("request count", "1"),
            ("request size", "11"),
            ("response count", "0"),
            ("response size", "0"),
            ("request content", "key:\"a\" value_size:6 "),
        ];
        for (field, value) in expected {
            assert_eq!(line.get(field).map(String::as_str), Some(value), "{field}");
        }
        assert!(line.contains_key("start time") && line.contains_key("time spent"));
    }

    #[test]
    fn other_methods_have_no_counts_and_streams_no_line() {
        let log = SlowLog::new(Duration::ZERO);
        assert!(log.begin("/etcdserverpb.Watch/Watch").is_none());
        assert!(log.begin("/etcdserverpb.KV/Put").is_none());
        let lines = logged(&log, |log| {
            let call = log.begin("/etcdserverpb.Lease/LeaseGrant");
            call.expect("it has one answer").end();
            // A call that is cancelled.
            drop(log.begin("/etcdserverpb.Lease/LeaseRevoke"));
            let range = RangeRequest::default();
            drop(log.request("/etcdserverpb.KV/Range", &range));
        });
        assert_eq!(lines[0]["request count"], "-1");
        let methods: Vec<_> = lines.iter().map(|line| &line["response type"]).collect();
        let expected = [
            "/etcdserverpb.Lease/LeaseGrant",
            "/etcdserverpb.Lease/LeaseRevoke",
            "/etcdserverpb.KV/Range",
        ];
        assert_eq!(methods, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn fast_requests_are_not_logged_and_slow_ones_ten_times_a_second() {
        let begin = |log: &SlowLog| log.begin("/etcdserverpb.KV/Compact").expect("a call");
        let fast = SlowLog::new(Duration::from_secs(3600));
        assert_eq!(logged(&fast, |log| begin(log).end()).len(), 0);
        let log = SlowLog::new(Duration::ZERO);
        let all = |log: &SlowLog| (0..25).for_each(|_| begin(log).end());
        assert_eq!(logged(&log, all).len(), 10);
        tokio::time::advance(Duration::from_secs(2)).await;
        let lines = logged(&log, |log| begin(log).end());
        assert_eq!(lines[0]["suppressed"], "15");
    }
}
