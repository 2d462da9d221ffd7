//! The spans of calls, with etcd's names and attributes.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::TargetUnion;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::request_op::Request as Op;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use keelson_proto::otlp::Span;
use keelson_proto::otlp::any_value::Value;
use keelson_proto::otlp::span::SpanKind;
use tonic::Request;

use super::{Limits, Port, http, within};
use crate::{More, Tracer, serve_clients};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn traced(samples_per_million: u32) -> (Port, Tracer) {
    let tracer = Tracer::new(samples_per_million);
    let own = tracer.clone();
    let port = Port::serving(move |fake, listeners, shutdown| async move {
        let more = |_: &_| More::<()> {
            tracer: Some(own),
            ..More::default()
        };
        serve_clients(fake, listeners, Limits::default(), more, shutdown).await
    });
    (port.await, tracer)
}

/// Waits until that many spans have ended.
async fn ended(tracer: &Tracer, count: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    while spans.len() < count {
        within(tracer.some()).await;
        spans.append(&mut tracer.take());
    }
    assert_eq!(spans.len(), count, "{spans:?}");
    spans
}

/// The spans of one call: the one around it, and the one inside it.
async fn of_one(tracer: &Tracer) -> (Span, Span) {
    let mut spans = ended(tracer, 2).await;
    spans.sort_by_key(Span::kind);
    let [inner, outer] = <[Span; 2]>::try_from(spans).expect("two");
    assert_eq!(
        (inner.kind(), outer.kind()),
        (SpanKind::Internal, SpanKind::Server)
    );
    assert_eq!(inner.parent_span_id, outer.span_id);
    assert_eq!(inner.trace_id, outer.trace_id);
    (outer, inner)
}

/// Name and attributes in their order, numbers and flags as texts.
fn described(span: &Span) -> (String, Vec<(&str, String)>) {
    let text = |value: &Value| match value {
        Value::StringValue(text) => format!("{text:?}"),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
    };
    let attributes = span.attributes.iter().map(|one| {
        let value = one.value.as_ref().and_then(|value| value.value.as_ref());
        (&*one.key, text(value.expect("a value")))
    });
    (span.name.clone(), attributes.collect())
}

#[track_caller]
fn check((outer, inner): &(Span, Span), method: &str, name: &str, expected: &[(&str, &str)]) {
    assert_eq!(outer.name, method);
    let expected = expected
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()));
    assert_eq!(described(inner), (name.to_owned(), expected.collect()));
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

#[tokio::test]
async fn reads_and_writes_are_described_as_by_etcd() {
    let (port, tracer) = traced(1_000_000).await;
    let mut kv = port.kv().await;
    let request = RangeRequest {
        range_end: "b".into(),
        limit: 7,
        count_only: true,
        ..range("a")
    };
    kv.range(request).await.unwrap();
    let attributes = [
        ("range_begin", "\"a\""),
        ("range_end", "\"b\""),
        ("rev", "0"),
        ("limit", "7"),
        ("count_only", "true"),
        ("keys_only", "false"),
    ];
    let spans = of_one(&tracer).await;
    check(&spans, "etcdserverpb.KV/Range", "range", &attributes);
    let (_, around) = described(&spans.0);
    let around: BTreeMap<_, _> = around.into_iter().collect();
    assert_eq!(around["rpc.method"], "\"Range\"");
    assert_eq!(around["network.peer.address"], "\"127.0.0.1\"");
    assert_eq!(around["rpc.grpc.status_code"], "0");

    let put = PutRequest {
        key: "a".into(),
        value: "secret".into(),
        ..PutRequest::default()
    };
    kv.put(put).await.unwrap();
    let spans = of_one(&tracer).await;
    check(&spans, "etcdserverpb.KV/Put", "put", &[("key", "\"a\"")]);

    let compaction = CompactionRequest {
        revision: 2,
        physical: true,
    };
    kv.compact(compaction).await.unwrap();
    let attributes = [("is_physical", "true"), ("rev", "2")];
    let spans = of_one(&tracer).await;
    check(&spans, "etcdserverpb.KV/Compact", "compact", &attributes);
}

#[tokio::test]
async fn a_transaction_is_described_by_its_first_operations() {
    let (port, tracer) = traced(1_000_000).await;
    let put = PutRequest {
        key: "op_key".into(),
        lease: 1234,
        ..PutRequest::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let txn = TxnRequest {
        compare: vec![Compare {
            key: "cmp_key".into(),
            target_union: Some(TargetUnion::Version(1)),
            ..Compare::default()
        }],
        success: vec![
            op(Op::RequestPut(put)),
            op(Op::RequestRange(range("other"))),
        ],
        failure: Vec::new(),
    };
    let mut kv = port.kv().await;
    kv.txn(txn).await.unwrap();
    let attributes = [
        ("compare_first_key", "\"cmp_key\""),
        ("success_first_key", "\"op_key\""),
        ("success_first_type", "\"put\""),
        ("success_first_lease", "1234"),
        ("compare_len", "1"),
        ("success_len", "2"),
        ("failure_len", "0"),
        ("read_only", "false"),
    ];
    let spans = of_one(&tracer).await;
    check(&spans, "etcdserverpb.KV/Txn", "txn", &attributes);
    let read = TxnRequest {
        failure: vec![op(Op::RequestRange(range("a")))],
        ..TxnRequest::default()
    };
    kv.txn(read).await.unwrap();
    let (_, inner) = of_one(&tracer).await;
    let (_, attributes) = described(&inner);
    assert_eq!(attributes[3], ("success_first_lease", "-1".to_owned()));
    assert_eq!(attributes[7], ("read_only", "true".to_owned()));
}

#[tokio::test]
async fn leases_are_described_with_their_ids() {
    let (port, tracer) = traced(1_000_000).await;
    let mut leases = LeaseClient::new(port.channel().await);
    let grant = LeaseGrantRequest { id: 0, ttl: 900 };
    let id = leases.lease_grant(grant).await.unwrap().into_inner().id;
    let text = id.to_string();
    let attributes = [("id", &*text), ("ttl", "900")];
    let spans = of_one(&tracer).await;
    check(
        &spans,
        "etcdserverpb.Lease/LeaseGrant",
        "lease_grant",
        &attributes,
    );

    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
    let answers = leases.lease_keep_alive(requests).await.unwrap();
    let mut answers = answers.into_inner();
    while answers.message().await.unwrap().is_some() {}
    let spans = of_one(&tracer).await;
    check(
        &spans,
        "etcdserverpb.Lease/LeaseKeepAlive",
        "lease_renew",
        &attributes[..1],
    );

    leases
        .lease_revoke(LeaseRevokeRequest { id })
        .await
        .unwrap();
    let spans = of_one(&tracer).await;
    check(
        &spans,
        "etcdserverpb.Lease/LeaseRevoke",
        "lease_revoke",
        &attributes[..1],
    );
}

#[tokio::test]
async fn the_creation_of_a_watcher_has_its_span_while_the_watch_goes_on() {
    let (port, tracer) = traced(1_000_000).await;
    let create = WatchCreateRequest {
        key: "watch-key".into(),
        start_revision: 1,
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut watches = WatchClient::new(port.channel().await);
    // The watch outlives the requests.
    let requests = tokio_stream::iter([request]);
    let answers = watches.watch(requests).await.unwrap();
    let inner = ended(&tracer, 1).await.remove(0);
    drop(answers);
    let outer = ended(&tracer, 1).await.remove(0);
    assert_eq!(inner.parent_span_id, outer.span_id);
    let attributes = [
        ("key", "\"watch-key\""),
        ("range_end", "\"\""),
        ("start_rev", "1"),
        ("progress_notify", "true"),
        ("prev_kv", "false"),
        ("fragment", "false"),
    ];
    check(
        &(outer, inner),
        "etcdserverpb.Watch/Watch",
        "watch",
        &attributes,
    );
}

#[tokio::test]
async fn a_call_belongs_to_its_clients_trace() {
    let (port, tracer) = traced(0).await;
    let mut kv: KvClient<_> = port.kv().await;
    kv.range(range("a")).await.unwrap();
    let mut request = Request::new(range("a"));
    let parent = PARENT.parse().expect("sound");
    request.metadata_mut().insert("traceparent", parent);
    kv.range(request).await.unwrap();
    // Only the second call is sampled.
    let (outer, _) = of_one(&tracer).await;
    assert_eq!(outer.trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35]);
    let parent: Bytes = Bytes::from_static(&[0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_eq!(outer.parent_span_id, parent);
}

#[tokio::test]
async fn calls_of_the_gateway_have_spans_and_other_requests_none() {
    let (port, tracer) = traced(1_000_000).await;
    http(&port, "GET", "/version").await;
    let (head, _) = http(&port, "POST", "/v3/maintenance/status").await;
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    let spans = ended(&tracer, 1).await;
    assert_eq!(spans[0].name, "etcdserverpb.Maintenance/Status");
}
