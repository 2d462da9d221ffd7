//! The metrics of `/metrics`: etcd 2's names and texts, and the health of the members.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::answers::Refusal;
use crate::context::Context;
use crate::h2::Sharing;
use crate::http1::body::AnswerBody;
use crate::policy::endpoint::Health;
use crate::policy::endpoints::Endpoints;
use crate::policy::subject::Subject;

/// Durations of answers: from half a millisecond to two seconds.
const BUCKETS: u16 = 13;
const FIRST_BUCKET_SECONDS: f64 = 0.0005;

/// The labels of a series.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counters by these labels.
type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// A member's series.
type OfEndpoint = [(&'static str, String); 1];

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Counters<1>,
    handled: Family<Handled, Counter>,
    dropped: Counters<2>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    resumed: Counter,
    /// Responses of shared watches that members did not have to send.
    pub(crate) coalesced: Counter,
}

/// The labels of answers: the status and the method.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    code: u16,
    method: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let histogram = || Histogram::new(exponential_buckets(FIRST_BUCKET_SECONDS, 2.0, BUCKETS));
        let mut metrics = Metrics {
            registry: Registry::default(),
            requests: Family::default(),
            handled: Family::default(),
            dropped: Family::default(),
            durations: Family::new_with_constructor(histogram),
            resumed: Counter::default(),
            coalesced: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The registry adds `_total` to the names of counters, and a full stop to the texts.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "etcd_proxy_requests",
            "Counter requests incoming by method",
            self.requests.clone(),
        );
        registry.register(
            "etcd_proxy_handled",
            "Counter of requests fully handled (by authoratitave servers)",
            self.handled.clone(),
        );
        registry.register(
            "etcd_proxy_dropped",
            "Counter of requests dropped on the proxy",
            self.dropped.clone(),
        );
        registry.register(
            "etcd_proxy_handling_duration_seconds",
            "Bucketed histogram of handling time of successful events (non-watches), by method \
             (GET/PUT etc.)",
            self.durations.clone(),
        );
        registry.register(
            "keelson_proxy_streams_resumed",
            "Watch and keepalive streams of the v3 API that were continued after a failure",
            self.resumed.clone(),
        );
        registry.register(
            "etcd_grpc_proxy_events_coalescing",
            "Total number of events coalescing",
            self.coalesced.clone(),
        );
    }

    pub(crate) fn request(&self, method: &Method) {
        self.requests.get_or_create(&labels(method)).inc();
    }

    /// Counts a member's answer.
    pub(crate) fn handled(&self, method: &Method, status: StatusCode, took: Duration) {
        let labels = labels(method);
        let handled = Handled {
            code: status.as_u16(),
            method: labels[0].1,
        };
        self.handled.get_or_create(&handled).inc();
        let durations = self.durations.get_or_create(&labels);
        durations.observe(took.as_secs_f64());
    }

    /// Counts a request without a member's answer.
    pub(crate) fn dropped(&self, method: &Method, refusal: Refusal) {
        let [method] = labels(method);
        let error = ("proxying_error", refusal.label());
        self.dropped.get_or_create(&[method, error]).inc();
        // etcd's has durations for each method, though there be none.
        drop(self.durations.get_or_create(&[method]));
    }

    /// Counts a watch or keepalive stream of the v3 API that was continued on another member.
    pub(crate) fn resumed(&self) {
        self.resumed.inc();
    }

    /// In Prometheus' text format, version 0.0.4.
    pub(crate) fn text(&self, endpoints: &Endpoints, sharing: Sharing) -> String {
        let mut text = String::with_capacity(4096);
        for registry in [
            &self.registry,
            &of_endpoints(endpoints),
            &of_sharing(sharing),
        ] {
            encode(&mut text, registry).expect("a string takes all that is written");
        }
        text
    }
}

/// The members as they are now.
fn of_endpoints(endpoints: &Endpoints) -> Registry {
    let up = Family::<OfEndpoint, Gauge<f64, AtomicU64>>::default();
    let leads = Family::<OfEndpoint, Gauge>::default();
    let leader = endpoints.leader.get();
    for endpoint in endpoints.list().iter() {
        let labels = [("endpoint", endpoint.url.to_string())];
        up.get_or_create(&labels).set(match endpoint.health() {
            Health::Healthy => 1.0,
            Health::Degraded => 0.5,
            Health::Down | Health::SelfLoop | Health::Removed => 0.0,
        });
        let leader = leader.as_ref();
        let is_leader = leader.is_some_and(|leader| Arc::ptr_eq(leader, endpoint));
        leads.get_or_create(&labels).set(i64::from(is_leader));
    }
    let mut registry = Registry::default();
    registry.register(
        "keelson_proxy_endpoint_up",
        "The health of a member: 1 healthy, 0.5 without a leader or with an alarm, 0 not usable",
        up,
    );
    registry.register(
        "keelson_proxy_endpoint_leads",
        "Whether the member is the leader, to which writes go",
        leads,
    );
    registry
}

/// The shared watches as they are now.
fn of_sharing(sharing: Sharing) -> Registry {
    let [hubs, coalesced] = [sharing.hubs, sharing.coalesced].map(|count| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        gauge
    });
    let mut registry = Registry::default();
    registry.register(
        "etcd_grpc_proxy_watchers_coalescing_total",
        "Total number of current watchers coalescing",
        coalesced,
    );
    registry.register(
        "keelson_proxy_shared_watches",
        "Watches of the v3 API that the proxy has begun for several watches of clients",
        hubs,
    );
    registry
}

/// The labels of a method's series.
fn labels(method: &Method) -> Labels<1> {
    [("method", label(method))]
}

/// Other methods share one label, so that clients cannot create more.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// What is measured of one request, and the form of its errors.
pub(crate) struct RequestRecord {
    method: Method,
    /// Errors have the form of the v2 keys API.
    keys: bool,
    began: Instant,
}

impl RequestRecord {
    /// Counts a request that has begun.
    pub(crate) fn new(context: &Context, method: &Method, subject: Subject) -> RequestRecord {
        context.metrics.request(method);
        RequestRecord {
            method: method.clone(),
            keys: subject == Subject::Keys,
            began: Instant::now(),
        }
    }

    /// Counts a member's answer.
    pub(crate) fn handled(self, context: &Context, status: StatusCode) {
        let took = self.began.elapsed();
        context.metrics.handled(&self.method, status, took);
    }

    /// Counts a request that no member answered. Returns the answer that the client gets.
    pub(crate) fn refused(self, context: &Context, refusal: Refusal) -> Response<AnswerBody> {
        context.metrics.dropped(&self.method, refusal);
        refusal.response(self.keys, &context.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines without the texts, in order; numbers as numbers.
    fn series(text: &str) -> Vec<(String, Option<f64>)> {
        let lines = text.lines().filter(|line| !line.starts_with("# HELP"));
        let series = lines.map(|line| match line.rsplit_once(' ') {
            Some((name, value)) if !line.starts_with('#') => {
                (name.to_owned(), Some(value.parse().unwrap()))
            }
            _ => (line.to_owned(), None),
        });
        let mut series: Vec<_> = series.collect();
        series.sort_by(|one, two| one.0.cmp(&two.0));
        series
    }

    /// Written by an earlier release, which also described metrics without series.
    const EARLIER: &str = "\
# TYPE etcd_grpc_proxy_events_coalescing_total counter
etcd_grpc_proxy_events_coalescing_total 0
# TYPE etcd_grpc_proxy_watchers_coalescing_total gauge
etcd_grpc_proxy_watchers_coalescing_total 7
# TYPE etcd_proxy_dropped_total counter
etcd_proxy_dropped_total{method=\"PUT\",proxying_error=\"zero_endpoints\"} 1
# TYPE etcd_proxy_handled_total counter
etcd_proxy_handled_total{code=\"200\",method=\"GET\"} 2
# TYPE etcd_proxy_handling_duration_seconds histogram
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.0005\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.001\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.002\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.004\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.008\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.016\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.032\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.064\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.128\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.256\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.512\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"1.024\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"2.048\"} 1
etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"+Inf\"} 2
etcd_proxy_handling_duration_seconds_sum{method=\"GET\"} 9.000946
etcd_proxy_handling_duration_seconds_count{method=\"GET\"} 2
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.0005\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.001\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.002\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.004\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.008\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.016\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.032\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.064\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.128\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.256\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"0.512\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"1.024\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"2.048\"} 0
etcd_proxy_handling_duration_seconds_bucket{method=\"PUT\",le=\"+Inf\"} 0
etcd_proxy_handling_duration_seconds_sum{method=\"PUT\"} 0
etcd_proxy_handling_duration_seconds_count{method=\"PUT\"} 0
# TYPE etcd_proxy_requests_total counter
etcd_proxy_requests_total{method=\"GET\"} 1
etcd_proxy_requests_total{method=\"PUT\"} 1
# TYPE keelson_proxy_shared_watches gauge
keelson_proxy_shared_watches 2
# TYPE keelson_proxy_streams_resumed_total counter
keelson_proxy_streams_resumed_total 1
";

    #[test]
    fn names_and_labels_are_those_of_earlier_releases() {
        let metrics = Metrics::default();
        metrics.request(&Method::GET);
        let took = Duration::from_micros(946);
        metrics.handled(&Method::GET, StatusCode::OK, took);
        metrics.handled(&Method::GET, StatusCode::OK, Duration::from_secs(9));
        metrics.request(&Method::PUT);
        metrics.dropped(&Method::PUT, Refusal::ZeroEndpoints);
        metrics.resumed();
        let sharing = Sharing {
            hubs: 2,
            coalesced: 7,
        };
        let text = metrics.text(&Endpoints::new(vec![], Default::default()), sharing);
        assert_eq!(series(&text), series(EARLIER), "{text}");
    }
}
