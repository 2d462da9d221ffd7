//! The metrics of `/metrics`: etcd 2's names and texts, and the health of the members.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::answers::Refusal;
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::policy::endpoint::Health;
use crate::policy::endpoints::Endpoints;
use crate::policy::subject::Subject;

/// From half a millisecond to two seconds.
const BUCKETS: i32 = 13;
const FIRST_BUCKET: f64 = 0.0005;

/// Counters.
#[derive(Default)]
pub(crate) struct Metrics {
    methods: Mutex<BTreeMap<&'static str, Counts>>,
    resumed: AtomicU64,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    handled: BTreeMap<u16, u64>,
    dropped: BTreeMap<&'static str, u64>,
    /// Answers by duration: up to 2^n times the first bucket; the last one counts longer ones.
    durations: [u64; BUCKETS as usize + 1],
    seconds: f64,
}

impl Metrics {
    pub(crate) fn request(&self, method: &Method) {
        self.methods
            .lock()
            .entry(label(method))
            .or_default()
            .requests += 1;
    }

    /// Counts a member's answer.
    pub(crate) fn handled(&self, method: &Method, status: StatusCode, took: Duration) {
        let mut counts = self.methods.lock();
        let counts = counts.entry(label(method)).or_default();
        *counts.handled.entry(status.as_u16()).or_default() += 1;
        counts.durations[bucket(took)] += 1;
        counts.seconds += took.as_secs_f64();
    }

    /// Counts a request without a member's answer.
    pub(crate) fn dropped(&self, method: &Method, refusal: Refusal) {
        let mut counts = self.methods.lock();
        let counts = counts.entry(label(method)).or_default();
        *counts.dropped.entry(refusal.label()).or_default() += 1;
    }

    /// Counts a watch or keepalive stream of the v3 API that was continued on another member.
    pub(crate) fn resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    /// In Prometheus' text format, version 0.0.4.
    pub(crate) fn text(&self, endpoints: &Endpoints) -> String {
        let mut text = String::with_capacity(4096);
        self.write(&mut text, endpoints)
            .expect("a string takes all that is written");
        text
    }

    fn write(&self, text: &mut String, endpoints: &Endpoints) -> std::fmt::Result {
        let counts = self.methods.lock();
        write_counters(text, &counts)?;
        let name = "etcd_proxy_handling_duration_seconds";
        let help = "Bucketed histogram of handling time of successful events (non-watches), \
                    by method (GET/PUT etc.).";
        head(text, name, "histogram", help)?;
        for (method, counts) in counts.iter() {
            counts.write_durations(text, name, method)?;
        }
        let name = "etcd_proxy_requests_total";
        head(
            text,
            name,
            "counter",
            "Counter requests incoming by method.",
        )?;
        for (method, counts) in counts.iter() {
            writeln!(text, "{name}{{method=\"{method}\"}} {}", counts.requests)?;
        }
        let name = "keelson_proxy_streams_resumed_total";
        let help = "Watch and keepalive streams of the v3 API that were continued after a failure.";
        head(text, name, "counter", help)?;
        writeln!(text, "{name} {}", self.resumed.load(Ordering::Relaxed))?;
        write_endpoints(text, endpoints)
    }
}

fn write_counters(text: &mut String, counts: &BTreeMap<&'static str, Counts>) -> std::fmt::Result {
    let name = "etcd_proxy_dropped_total";
    head(
        text,
        name,
        "counter",
        "Counter of requests dropped on the proxy.",
    )?;
    for (method, counts) in counts.iter() {
        for (error, count) in &counts.dropped {
            let labels = format!("method=\"{method}\",proxying_error=\"{error}\"");
            writeln!(text, "{name}{{{labels}}} {count}")?;
        }
    }
    let name = "etcd_proxy_handled_total";
    let help = "Counter of requests fully handled (by authoratitave servers)";
    head(text, name, "counter", help)?;
    for (method, counts) in counts.iter() {
        for (code, count) in &counts.handled {
            writeln!(
                text,
                "{name}{{code=\"{code}\",method=\"{method}\"}} {count}"
            )?;
        }
    }
    Ok(())
}

impl Counts {
    fn write_durations(&self, text: &mut String, name: &str, method: &str) -> std::fmt::Result {
        let mut bound = FIRST_BUCKET;
        let mut sum = 0;
        for count in &self.durations[..BUCKETS as usize] {
            sum += count;
            writeln!(
                text,
                "{name}_bucket{{method=\"{method}\",le=\"{bound}\"}} {sum}"
            )?;
            bound *= 2.0;
        }
        sum += self.durations[BUCKETS as usize];
        writeln!(
            text,
            "{name}_bucket{{method=\"{method}\",le=\"+Inf\"}} {sum}"
        )?;
        writeln!(text, "{name}_sum{{method=\"{method}\"}} {}", self.seconds)?;
        writeln!(text, "{name}_count{{method=\"{method}\"}} {sum}")
    }
}

fn write_endpoints(text: &mut String, endpoints: &Endpoints) -> std::fmt::Result {
    let name = "keelson_proxy_endpoint_up";
    let help =
        "The health of a member: 1 healthy, 0.5 without a leader or with an alarm, 0 not usable.";
    head(text, name, "gauge", help)?;
    let all = endpoints.list();
    for endpoint in &all {
        let up = match endpoint.health() {
            Health::Healthy => "1",
            Health::Degraded => "0.5",
            Health::Down | Health::SelfLoop | Health::Removed => "0",
        };
        writeln!(text, "{name}{{endpoint={:?}}} {up}", endpoint.url)?;
    }
    let name = "keelson_proxy_endpoint_leads";
    head(
        text,
        name,
        "gauge",
        "Whether the member is the leader, to which writes go.",
    )?;
    let leader = endpoints.leader.get();
    for endpoint in &all {
        let leads = leader
            .as_ref()
            .is_some_and(|one| Arc::ptr_eq(one, endpoint));
        writeln!(
            text,
            "{name}{{endpoint={:?}}} {}",
            endpoint.url,
            u8::from(leads)
        )?;
    }
    Ok(())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn bucket(took: Duration) -> usize {
    let mut bound = Duration::from_secs_f64(FIRST_BUCKET);
    let mut bucket = 0;
    while bound < took && bucket < BUCKETS as usize {
        bound *= 2;
        bucket += 1;
    }
    bucket
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

    #[test]
    fn the_text_is_etcds() {
        let metrics = Metrics::default();
        metrics.request(&Method::GET);
        let took = Duration::from_micros(946);
        metrics.handled(&Method::GET, StatusCode::OK, took);
        metrics.handled(&Method::GET, StatusCode::OK, Duration::from_secs(9));
        metrics.dropped(&Method::PUT, Refusal::ZeroEndpoints);
        let text = metrics.text(&Endpoints::new(vec![], Default::default()));
        for line in [
            "# TYPE etcd_proxy_handling_duration_seconds histogram",
            "etcd_proxy_dropped_total{method=\"PUT\",proxying_error=\"zero_endpoints\"} 1",
            "etcd_proxy_handled_total{code=\"200\",method=\"GET\"} 2",
            "etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.0005\"} 0",
            "etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.001\"} 1",
            "etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"2.048\"} 1",
            "etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"+Inf\"} 2",
            "etcd_proxy_requests_total{method=\"GET\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
