//! Tests of the counts of calls.

use http_body_util::BodyExt;
use keelson_port::metrics::Exposition;
use tonic::body::Body;

use super::*;

const PUT: &str = "/etcdserverpb.KV/Put";

fn text(calls: &CallMetrics) -> String {
    let mut out = Exposition::default();
    calls.write(&mut out);
    out.into_text()
}

#[track_caller]
fn check(calls: &CallMetrics, series: &str) {
    let text = text(calls);
    assert!(text.lines().any(|line| line == series), "{series}: {text}");
}

#[tokio::test]
async fn a_call_counts_once_with_its_status() {
    let calls = CallMetrics::new(true);
    let refused = tonic::Status::unavailable("no").into_http();
    drop(CallBody::of(
        refused,
        Method::at(PUT).map(|put| calls.begin(put)),
    ));
    drop(CallBody::of(
        http::Response::new(Body::empty()),
        Method::at(PUT).map(|put| calls.begin(put)),
    ));
    let message = bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let body = http_body_util::Full::new(message).with_trailers(async { Some(Ok(trailers)) });
    let body = Body::new(body.map_err(|never| -> tonic::Status { match never {} }));
    let answer = CallBody::of(
        http::Response::new(body),
        Method::at(PUT).map(|put| calls.begin(put)),
    );
    let answer = answer.into_body().collect().await;
    assert!(answer.is_ok());
    let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    check(&calls, &format!("grpc_server_started_total{{{labels}}} 3"));
    check(&calls, &format!("grpc_server_msg_sent_total{{{labels}}} 1"));
    for code in ["OK", "Canceled", "Unavailable"] {
        check(
            &calls,
            &format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}} 1"),
        );
    }
    let count = format!("grpc_server_handling_seconds_count{{{labels}}} 3");
    check(&calls, &count);
    check(&calls, "etcd_network_client_grpc_sent_bytes_total 2");
}

#[test]
fn durations_are_only_in_extensive_metrics() {
    assert!(!text(&CallMetrics::new(false)).contains("handling_seconds"));
}
