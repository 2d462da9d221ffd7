//! Sends the spans of gRPC calls to a collector: OTLP over gRPC, as etcd's
//! `--enable-distributed-tracing`.
//!
//! The edge makes the spans and holds them in a bounded queue; a task sends them in batches. No
//! request waits for it: what has no room, and what the collector does not take in time, is lost
//! and counted.

mod exporter;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use keelson_port::metrics::Exposition;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use self::exporter::Exporter;
use crate::Config;
use crate::config::ConfigError;
use crate::edge::Tracer;
use crate::metrics::Count;

/// How long a stop waits for the last spans. Both ends of a connection are usually on one host.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// Where spans go, and which calls have some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// `host:port` of the collector, without TLS.
    pub address: String,
    /// `service.name`, the same for all members.
    pub service_name: String,
    /// `service.instance.id`, another for each member; empty for none.
    pub instance_id: String,
    /// Of a million calls so many are sampled; besides those whose client's span is.
    pub samples_per_million: u32,
}

impl TracingConfig {
    /// # Errors
    /// The address is not `host:port`.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, ConfigError> {
        let unusable = || ConfigError::Collector(self.address.clone());
        let endpoint =
            Endpoint::from_shared(format!("http://{}", self.address)).map_err(|_| unusable())?;
        match (endpoint.uri().port(), endpoint.uri().path()) {
            (Some(_), "/") => Ok(endpoint),
            _ => Err(unusable()),
        }
    }
}

/// The spans of a member.
pub(crate) struct Traces {
    tracer: Tracer,
    counts: Arc<ExportCounts>,
    exporting: Mutex<Option<JoinHandle<()>>>,
}

/// What became of the spans.
#[derive(Debug, Default)]
struct ExportCounts {
    exported: Count,
    failed: Count,
}

impl Traces {
    /// Begins to export, if there are to be spans, until the member is stopping.
    ///
    /// # Errors
    /// The collector's address is none.
    pub(crate) fn of(
        config: &Config,
        stopping: &watch::Sender<bool>,
    ) -> Result<Option<Traces>, ConfigError> {
        let config = config.tracing.as_ref();
        let begun = config.map(|config| Traces::begin(config, stopping.subscribe()));
        begun.transpose()
    }

    fn begin(
        config: &TracingConfig,
        stopping: watch::Receiver<bool>,
    ) -> Result<Traces, ConfigError> {
        let endpoint = config.endpoint()?;
        let tracer = Tracer::new(config.samples_per_million);
        let counts = Arc::new(ExportCounts::default());
        let exporter = Exporter::new(endpoint, config, tracer.clone(), Arc::clone(&counts));
        Ok(Traces {
            tracer,
            counts,
            exporting: Mutex::new(Some(tokio::spawn(exporter.run(stopping)))),
        })
    }

    /// What makes the spans.
    pub(crate) fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Waits until the last spans are sent, once the member is stopping; not for long.
    pub(crate) async fn end(&self) {
        let exporting = self.exporting.lock().take();
        if let Some(mut exporting) = exporting
            && tokio::time::timeout(LAST_PATIENCE, &mut exporting)
                .await
                .is_err()
        {
            exporting.abort();
        }
    }

    /// Writes the counts for `/metrics`.
    pub(crate) fn write(&self, out: &mut Exposition) {
        let help = "Spans of calls that the collector has taken.";
        out.counter(
            "keelson_trace_spans_exported_total",
            help,
            self.counts.exported.get(),
        );
        let name = "keelson_trace_spans_dropped_total";
        let help = "Spans of calls that are lost: no room, or no answer of the collector.";
        out.begin(name, help, "counter");
        for (reason, count) in [
            ("queue_full", self.tracer.dropped()),
            ("export_failed", self.counts.failed.get()),
        ] {
            out.series(name, &[("reason", reason)], count);
        }
    }
}
