//! The text of `/metrics`: the original service's names where the meaning is the same, and further
//! ones.
//!
//! Live tokens are not counted: the registry would have to list them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use parking_lot::Mutex;

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
            Kind::Health => "endpoint_health_requests_total",
            Kind::New => "endpoint_new_requests_total",
            Kind::Token => "endpoint_token_requests_total",
            Kind::Other => "keelson_discovery_other_requests_total",
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

    fn label(self) -> &'static str {
        match self {
            Limit::Body => "body",
            Limit::Connections => "connections",
            Limit::Entries => "entries",
            Limit::New => "new",
            Limit::Size => "size",
            Limit::Time => "time",
            Limit::Total => "total",
            Limit::Writes => "writes",
        }
    }
}

/// Counters of a service.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(Kind, u16, &'static str), u64>>,
    refused: Mutex<BTreeMap<Limit, u64>>,
    made: AtomicU64,
    waits: AtomicU64,
}

/// A wait that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenWait(Arc<Metrics>);

impl Drop for OpenWait {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(super) fn answered(&self, kind: Kind, method: &Method, status: StatusCode) {
        let key = (kind, status.as_u16(), label(method));
        *self.requests.lock().entry(key).or_default() += 1;
    }

    pub(super) fn refused(&self, limit: Limit) {
        *self.refused.lock().entry(limit).or_default() += 1;
    }

    pub(super) fn token_made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wait(self: &Arc<Metrics>) -> OpenWait {
        self.waits.fetch_add(1, Ordering::Relaxed);
        OpenWait(Arc::clone(self))
    }

    /// The metrics in Prometheus' text format, version 0.0.4.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(2048);
        self.write(&mut text)
            .expect("writing to a string does not fail");
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        self.write_requests(text)?;
        let name = "keelson_discovery_refused_total";
        let help = "How many requests and connections were refused, by limit.";
        head(text, name, "counter", help)?;
        let refused = self.refused.lock().clone();
        for limit in Limit::ALL {
            let count = refused.get(&limit).copied().unwrap_or_default();
            writeln!(text, "{name}{{limit=\"{}\"}} {count}", limit.label())?;
        }
        let name = "keelson_discovery_tokens_made_total";
        head(text, name, "counter", "How many tokens were made.")?;
        writeln!(text, "{name} {}", self.made.load(Ordering::Relaxed))?;
        let name = "keelson_discovery_waits_open";
        head(text, name, "gauge", "How many waits are open.")?;
        writeln!(text, "{name} {}", self.waits.load(Ordering::Relaxed))
    }

    fn write_requests(&self, text: &mut String) -> fmt::Result {
        let requests = self.requests.lock().clone();
        for kind in Kind::ALL {
            let (name, path) = (kind.name(), kind.path());
            let help = format!(
                "How many {path} requests processed, partitioned by status code and HTTP method."
            );
            head(text, name, "counter", &help)?;
            for ((_, code, method), count) in requests.iter().filter(|((of, ..), _)| *of == kind) {
                let labels = format!("code=\"{code}\",method=\"{method}\"");
                writeln!(text, "{name}{{{labels}}} {count}")?;
            }
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
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
    fn what_happened_is_told() {
        let metrics = Arc::new(Metrics::default());
        metrics.answered(Kind::New, &Method::GET, StatusCode::OK);
        metrics.answered(Kind::New, &Method::GET, StatusCode::OK);
        let odd = Method::from_bytes(b"BREW").expect("a method");
        metrics.answered(Kind::Other, &odd, StatusCode::NOT_FOUND);
        metrics.refused(Limit::Entries);
        metrics.token_made();
        let wait = metrics.wait();
        let text = metrics.text();
        for line in [
            "# TYPE endpoint_health_requests_total counter",
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
