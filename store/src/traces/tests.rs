//! A collector in the test receives the spans of a member; one that never answers delays nothing.

use std::time::Instant;

use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::otlp::any_value::Value;
use keelson_proto::otlp::trace_service_server::{TraceService, TraceServiceServer};
use keelson_proto::otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::exporter::EXPORT_PATIENCE;
use super::*;
use crate::Store;

/// Passes on what it receives.
struct Collector {
    received: mpsc::Sender<ExportTraceServiceRequest>,
    answers: bool,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _ = self.received.send(request.into_inner()).await;
        match self.answers {
            true => Ok(Response::new(ExportTraceServiceResponse::default())),
            false => std::future::pending().await,
        }
    }
}

/// Starts a collector. Returns its address, and what it receives.
async fn collect(answers: bool) -> (String, mpsc::Receiver<ExportTraceServiceRequest>) {
    let (received, requests) = mpsc::channel(8);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector { received, answers }))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    (address, requests)
}

/// A member of its own with a client, and the end of its port.
struct Traced {
    store: Store,
    kv: KvClient<tonic::transport::Channel>,
    stop: oneshot::Sender<()>,
    _dir: tempfile::TempDir,
}

impl Traced {
    async fn start(address: String) -> Traced {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::single("traced", dir.path());
        config.unsafe_no_fsync = true;
        config.tracing = Some(TracingConfig {
            address,
            service_name: "etcd".to_owned(),
            instance_id: "m1".to_owned(),
            samples_per_million: 1_000_000,
        });
        let store = Store::open(config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let own = store.clone();
        tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            own.serve(vec![listener], stopped).await
        });
        let kv = KvClient::connect(url).await.unwrap();
        Traced {
            store,
            kv,
            stop,
            _dir: dir,
        }
    }

    async fn range(&mut self) {
        let request = RangeRequest {
            key: "a".into(),
            ..RangeRequest::default()
        };
        self.kv.range(request).await.unwrap();
    }

    fn metrics(&self) -> String {
        let mut out = Exposition::default();
        self.store.metrics_text(&mut out);
        out.into_text()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_receives_the_spans_of_a_member() {
    let (address, mut received) = collect(true).await;
    let mut member = Traced::start(address).await;
    member.range().await;
    let mut names = Vec::new();
    // The two spans of the call may end in different batches.
    while names.len() < 2 {
        let waited = tokio::time::timeout(Duration::from_secs(60), received.recv()).await;
        for mut of_one in waited.expect("in time").expect("a batch").resource_spans {
            let resource = of_one.resource.take().unwrap_or_default();
            let values = resource.attributes.into_iter().map(|one| {
                let value = one.value.and_then(|value| value.value);
                (one.key, value)
            });
            let text = |text: &str| Some(Value::StringValue(text.to_owned()));
            let expected = [
                ("service.name".to_owned(), text("etcd")),
                ("service.instance.id".to_owned(), text("m1")),
            ];
            assert_eq!(values.collect::<Vec<_>>(), expected);
            let spans = of_one.scope_spans.into_iter().flat_map(|scope| scope.spans);
            names.extend(spans.map(|span| span.name));
        }
    }
    names.sort();
    assert_eq!(names, ["etcdserverpb.KV/Range", "range"]);
    let exported = "keelson_trace_spans_exported_total";
    let none_lost = "keelson_trace_spans_dropped_total{reason=\"export_failed\"} 0";
    let text = member.metrics();
    assert!(
        text.contains(exported) && text.contains(none_lost),
        "{text}"
    );
    // What ends just before the stop is sent as well.
    member.range().await;
    member.stop.send(()).unwrap();
    member.store.shutdown().await;
    let last = tokio::time::timeout(Duration::from_secs(60), received.recv()).await;
    assert!(last.expect("in time").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_delays_neither_requests_nor_the_stop() {
    let (address, mut received) = collect(false).await;
    let mut member = Traced::start(address).await;
    for _ in 0..20 {
        member.range().await;
    }
    // A batch is on its way, and stays so.
    let waited = tokio::time::timeout(Duration::from_secs(60), received.recv()).await;
    assert!(waited.expect("in time").is_some());
    let waiting = Instant::now();
    member.range().await;
    assert!(
        waiting.elapsed() < EXPORT_PATIENCE,
        "a request waited for it"
    );
    member.stop.send(()).unwrap();
    let began = Instant::now();
    member.store.shutdown().await;
    assert!(began.elapsed() < EXPORT_PATIENCE, "the stop waited for it");
}
