//! The text of `/metrics`: the original service's names where the meaning is the same, and further
//! ones.
//!
//! Live tokens are not counted: the registry would have to list them.

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::route::Route;

/// The kind of a request. The original counts the first three, each under a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Health,
    New,
    Token,
    Other,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Health, Kind::New, Kind::Token, Kind::Other];

    pub(super) fn of(route: &Route) -> Kind {
        match route {
            Route::Health => Kind::Health,
            Route::New => Kind::New,
            Route::Token(_) | Route::Write { .. } => Kind::Token,
            _ => Kind::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Health => "endpoint_health_requests",
            Kind::New => "endpoint_new_requests",
            Kind::Token => "endpoint_token_requests",
            Kind::Other => "keelson_discovery_other_requests",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Kind::Health => "/health",
            Kind::New => "/new",
            Kind::Token => "/token",
            Kind::Other => "other",
        }
    }
}

/// The limit that refused a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limit {
    /// Bytes of a body.
    Body,
    /// Connections of an address.
    Connections,
    /// Entries of a token.
    Entries,
    /// Tokens for an address.
    New,
    /// Bytes of a token.
    Size,
    /// Time for a body.
    Time,
    /// Bytes of all tokens.
    Total,
    /// Writes of an address.
    Writes,
}

impl Limit {
    const ALL: [Limit; 8] = [
        Limit::Body,
        Limit::Connections,
        Limit::Entries,
        Limit::New,
        Limit::Size,
        Limit::Time,
        Limit::Total,
        Limit::Writes,
    ];

    fn labels(self) -> [(&'static str, &'static str); 1] {
        let limit = match self {
            Limit::Body => "body",
            Limit::Connections => "connections",
            Limit::Entries => "entries",
            Limit::New => "new",
            Limit::Size => "size",
            Limit::Time => "time",
            Limit::Total => "total",
            Limit::Writes => "writes",
        };
        [("limit", limit)]
    }
}

/// The labels of requests: the status and the method.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
    method: &'static str,
}

/// Counters of a service.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    /// By the place of the kind in `Kind::ALL`.
    requests: [Family<RequestLabels, Counter>; 4],
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    made: Counter,
    waits: Gauge,
}

/// A wait that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenWait(Gauge);

impl Drop for OpenWait {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::default(),
            requests: Default::default(),
            refused: Family::default(),
            made: Counter::default(),
            waits: Gauge::default(),
        };
        for limit in Limit::ALL {
            drop(metrics.refused.get_or_create(&limit.labels()));
        }
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The registry adds `_total` to the names of counters, and a full stop to the texts.
    fn register(&mut self) {
        let registry = &mut self.registry;
        for (kind, requests) in Kind::ALL.iter().zip(&self.requests) {
            let path = kind.path();
            let help = format!(
                "How many {path} requests processed, partitioned by status code and HTTP method"
            );
            registry.register(kind.name(), help, requests.clone());
        }
        registry.register(
            "keelson_discovery_refused",
            "How many requests and connections were refused, by limit",
            self.refused.clone(),
        );
        registry.register(
            "keelson_discovery_tokens_made",
            "How many tokens were made",
            self.made.clone(),
        );
        registry.register(
            "keelson_discovery_waits_open",
            "How many waits are open",
            self.waits.clone(),
        );
    }

    pub(super) fn answered(&self, kind: Kind, method: &Method, status: StatusCode) {
        let labels = RequestLabels {
            code: status.as_u16(),
            method: label(method),
        };
        self.requests[kind as usize].get_or_create(&labels).inc();
    }

    pub(super) fn refused(&self, limit: Limit) {
        self.refused.get_or_create(&limit.labels()).inc();
    }

    pub(super) fn token_made(&self) {
        self.made.inc();
    }

    pub(super) fn wait(&self) -> OpenWait {
        self.waits.inc();
        OpenWait(self.waits.clone())
    }

    /// The metrics in Prometheus' text format, version 0.0.4.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(2048);
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

/// The label of a method. Clients cannot add further labels.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::default();
        metrics.answered(Kind::New, &Method::GET, StatusCode::OK);
        metrics.answered(Kind::New, &Method::GET, StatusCode::OK);
        let odd = Method::from_bytes(b"BREW").expect("a method");
        metrics.answered(Kind::Other, &odd, StatusCode::NOT_FOUND);
        metrics.refused(Limit::Entries);
        metrics.token_made();
        let wait = metrics.wait();
        let text = metrics.text();
        for line in [
            "# TYPE endpoint_new_requests_total counter",
            "endpoint_new_requests_total{code=\"200\",method=\"GET\"} 2",
            "keelson_discovery_other_requests_total{code=\"404\",method=\"other\"} 1",
            "keelson_discovery_refused_total{limit=\"entries\"} 1",
            "keelson_discovery_refused_total{limit=\"new\"} 0",
            "keelson_discovery_tokens_made_total 1",
            "keelson_discovery_waits_open 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        drop(wait);
        assert!(metrics.text().contains("keelson_discovery_waits_open 0\n"));
    }
}
