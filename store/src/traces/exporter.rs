//! The task that sends spans in batches.

use std::sync::Arc;
use std::time::Duration;

use keelson_port::LogThrottle;
use keelson_proto::otlp::any_value::Value;
use keelson_proto::otlp::trace_service_client::TraceServiceClient;
use keelson_proto::otlp::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans,
    ScopeSpans, Span,
};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::{ExportCounts, TracingConfig};
use crate::edge::Tracer;
use crate::version;

/// A span waits so long for others.
const DELAY: Duration = Duration::from_secs(1);

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The longest wait for the collector's answer: that of Go's exporter.
pub(super) const EXPORT_PATIENCE: Duration = Duration::from_secs(10);

/// Sends what the tracer holds.
pub(super) struct Exporter {
    tracer: Tracer,
    collector: TraceServiceClient<Channel>,
    resource: Resource,
    counts: Arc<ExportCounts>,
    failures: LogThrottle,
    address: String,
}

impl Exporter {
    /// Connects with the first batch, and again after an error.
    pub(super) fn new(
        endpoint: Endpoint,
        config: &TracingConfig,
        tracer: Tracer,
        counts: Arc<ExportCounts>,
    ) -> Exporter {
        let channel = endpoint.connect_timeout(CONNECT_PATIENCE).connect_lazy();
        Exporter {
            tracer,
            collector: TraceServiceClient::new(channel),
            resource: resource(config),
            counts,
            failures: LogThrottle::default(),
            address: config.address.clone(),
        }
    }

    /// Exports until the member stops, and then what is left.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut stopped = std::pin::pin!(async move {
            // An error means that the sender was dropped, which is a stop as well.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        });
        loop {
            tokio::select! {
                () = &mut stopped => break,
                () = self.step() => {}
            }
        }
        loop {
            let spans = self.tracer.take();
            if spans.is_empty() {
                return;
            }
            self.export(spans).await;
        }
    }

    /// Waits for spans, and sends a batch.
    async fn step(&mut self) {
        self.tracer.some().await;
        let _ = timeout(DELAY, self.tracer.batch()).await;
        let spans = self.tracer.take();
        self.export(spans).await;
    }

    async fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let refused = match timeout(EXPORT_PATIENCE, self.send(spans)).await {
            Ok(Ok(refused)) => refused.min(count),
            Ok(Err(status)) => self.failed(count, status.message()),
            Err(_) => self.failed(count, "no answer in time"),
        };
        if refused < count && self.failures.recovered().is_some() {
            tracing::info!(collector = self.address, "traces are exported again");
        }
        self.counts.exported.add(count - refused);
        self.counts.failed.add(refused);
    }

    /// Sends a batch. Returns how many spans the collector refused.
    async fn send(&mut self, spans: Vec<Span>) -> Result<u64, Status> {
        let scope = InstrumentationScope {
            name: "keelson".to_owned(),
            version: version::KEELSON.to_owned(),
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                }],
            }],
        };
        let answer = self.collector.export(request).await?.into_inner();
        let refused = answer.partial_success.unwrap_or_default().rejected_spans;
        Ok(u64::try_from(refused).unwrap_or_default())
    }

    /// All of the batch is lost.
    fn failed(&mut self, count: u64, error: &str) -> u64 {
        if self.failures.failing().is_some() {
            let collector = &self.address;
            tracing::warn!(collector, error, spans = count, "traces are not exported");
        }
        count
    }
}

/// OpenTelemetry's names of the process.
fn resource(config: &TracingConfig) -> Resource {
    let attributes = [
        ("service.name", &config.service_name),
        ("service.instance.id", &config.instance_id),
    ];
    let attributes = attributes
        .into_iter()
        .filter(|(_, value)| !value.is_empty());
    Resource {
        attributes: attributes
            .map(|(key, value)| KeyValue {
                key: key.to_owned(),
                value: Some(AnyValue {
                    value: Some(Value::StringValue(value.clone())),
                }),
            })
            .collect(),
    }
}
