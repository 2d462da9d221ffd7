//! The v3 API over gRPC.

use bytes::Bytes;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::range_request::SortOrder;
use keelson_proto::etcdserverpb::*;
use keelson_proto::health::HealthCheckRequest;
use keelson_proto::health::health_check_response::ServingStatus;
use keelson_proto::health::health_client::HealthClient;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::fake::REQUEST_BYTES_MAX;
use super::{Port, within};

fn put(key: &str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..RangeRequest::default()
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..RangeRequest::default()
    }
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, message: &str) {
    let status = result.expect_err("a refusal");
    assert_eq!((status.code(), status.message()), (code, message));
}

#[tokio::test]
async fn a_put_is_read_back() {
    let port = Port::start().await;
    let mut kv = port.kv().await;
    let response = kv.put(put("a", "1")).await.unwrap().into_inner();
    assert_eq!(response.header.unwrap().revision, 2);
    let response = kv.range(get("a")).await.unwrap().into_inner();
    assert_eq!(response.kvs[0].value, "1");
    assert_eq!(response.count, 1);
}

#[tokio::test]
async fn refusals_have_etcds_code_and_text() {
    let port = Port::start().await;
    let mut kv = port.kv().await;
    let refused = kv.put(put("", "1")).await;
    check(
        refused,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let future = RangeRequest {
        revision: 99,
        ..get("a")
    };
    check(
        kv.range(future).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let mut maintenance = MaintenanceClient::new(port.channel().await);
    let hash = maintenance.hash(HashRequest {}).await.unwrap();
    assert_eq!(hash.into_inner().hash, 7);
    let pieces = maintenance.snapshot(SnapshotRequest {}).await.unwrap();
    let mut pieces = pieces.into_inner();
    let mut file = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        file.extend_from_slice(&piece.blob);
    }
    assert_eq!(file, b"abc");
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
    let downgrade = DowngradeRequest::default();
    check(
        maintenance.downgrade(downgrade).await,
        Code::InvalidArgument,
        "etcdserver: wrong downgrade target version format",
    );
}

#[tokio::test]
async fn a_proposal_over_the_limit_is_etcds_refusal_and_a_message_over_it_is_grpcs() {
    let port = Port::start().await;
    let mut kv = port.kv().await;
    let large = kv.put(put("a", vec![0; REQUEST_BYTES_MAX])).await;
    check(
        large,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let limit = REQUEST_BYTES_MAX + 512 * 1024;
    let larger = kv.put(put("a", vec![0; limit])).await;
    let message = format!(
        "grpc: received message larger than max ({} vs. {limit})",
        limit + 7
    );
    check(larger, Code::ResourceExhausted, &message);
    kv.put(put("a", "1")).await.unwrap();
}

#[tokio::test]
async fn long_answers_are_not_limited() {
    let port = Port::start().await;
    let mut kv = port.kv().await.max_decoding_message_size(usize::MAX);
    for i in 0..100 {
        let value = vec![0; REQUEST_BYTES_MAX - 100];
        kv.put(put(&format!("key-{i}"), value)).await.unwrap();
    }
    let response = kv.range(everything()).await.unwrap().into_inner();
    assert_eq!(response.kvs.len(), 100);
}

#[tokio::test]
async fn a_stream_of_pieces_is_the_range() {
    let port = Port::start().await;
    let mut kv = port.kv().await;
    for i in 0..1000 {
        kv.put(put(&format!("key-{i:04}"), vec![0; 100]))
            .await
            .unwrap();
    }
    for limit in [0, 1, 5, 10, 11, 999, 1000, 1001] {
        let request = RangeRequest {
            limit,
            ..everything()
        };
        let whole = kv.range(request.clone()).await.unwrap().into_inner();
        let pieces = kv.range_stream(request).await.unwrap().into_inner();
        let pieces: Vec<_> = pieces.collect::<Result<Vec<_>, _>>().await.unwrap();
        let pieces: Vec<_> = pieces
            .into_iter()
            .map(|p| p.range_response.unwrap())
            .collect();
        let (last, earlier) = pieces.split_last().unwrap();
        assert_eq!(
            (last.count, last.more),
            (whole.count, whole.more),
            "{limit}"
        );
        assert_eq!(last.header, whole.header);
        assert!(
            earlier
                .iter()
                .all(|p| p.header.is_none() && p.count == 0 && !p.more)
        );
        let kvs: Vec<_> = pieces.iter().flat_map(|p| p.kvs.clone()).collect();
        assert_eq!(kvs, whole.kvs, "{limit}");
    }
    assert!(1 < pieces_of_everything(&mut kv).await);
}

async fn pieces_of_everything(kv: &mut KvClient<Channel>) -> usize {
    let pieces = kv.range_stream(everything()).await.unwrap().into_inner();
    pieces.collect::<Vec<_>>().await.len()
}

#[tokio::test]
async fn a_stream_comes_in_key_order_only() {
    let port = Port::start().await;
    let mut kv = port.kv().await;
    let mut refused = async |request: RangeRequest| {
        let mut pieces = kv.range_stream(request).await.unwrap().into_inner();
        pieces.next().await.unwrap()
    };
    let sorted = RangeRequest {
        sort_order: SortOrder::Descend as i32,
        ..everything()
    };
    check(
        refused(sorted).await,
        Code::Unimplemented,
        "RangeStream does not support custom sort orders",
    );
    let filtered = RangeRequest {
        min_mod_revision: 1,
        ..everything()
    };
    check(
        refused(filtered).await,
        Code::Unimplemented,
        "RangeStream does not support revision filters",
    );
}

fn requiring_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().unwrap());
    request
}

#[tokio::test]
async fn a_request_that_requires_a_leader_is_refused_at_once_without_one() {
    let port = Port::start().await;
    let mut kv = port.kv().await;
    let local = || RangeRequest {
        serializable: true,
        ..get("a")
    };
    kv.range(requiring_leader(local())).await.unwrap();
    port.fake.set(|state| state.leaderless = true);
    let refused = kv.range(requiring_leader(local())).await;
    check(refused, Code::Unavailable, "etcdserver: no leader");
    kv.range(local()).await.unwrap();
    let mut maintenance = MaintenanceClient::new(port.channel().await);
    let status = maintenance.status(StatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().errors, ["etcdserver: no leader"]);
}

#[tokio::test]
async fn a_learner_answers_local_reads_and_its_status() {
    let port = Port::start().await;
    port.fake.set(|state| state.learner = true);
    let mut kv = port.kv().await;
    let refusal = "etcdserver: rpc not supported for learner";
    check(
        kv.put(put("a", "1")).await,
        Code::FailedPrecondition,
        refusal,
    );
    check(kv.range(get("a")).await, Code::FailedPrecondition, refusal);
    let local = RangeRequest {
        serializable: true,
        ..get("a")
    };
    kv.range(local).await.unwrap();
    let mut maintenance = MaintenanceClient::new(port.channel().await);
    let status = maintenance.status(StatusRequest {}).await.unwrap();
    assert!(status.into_inner().is_learner);
}

#[tokio::test]
async fn the_health_service_has_the_server_only() {
    let port = Port::start().await;
    let mut health = HealthClient::new(port.channel().await);
    let of = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let response = health.check(of("")).await.unwrap().into_inner();
    assert_eq!(response.status(), ServingStatus::Serving);
    let refused = health.check(of("etcdserverpb.KV")).await;
    check(refused, Code::NotFound, "unknown service");
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let port = Port::start().await;
    let mut grpc = tonic::client::Grpc::new(port.channel().await);
    for path in ["/etcdserverpb.KV/Nope", "/no.Such/Service", "/"] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<StatusRequest, StatusResponse>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let refused = grpc
            .unary(Request::new(StatusRequest {}), path, codec)
            .await;
        assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    }
}

/// hyper's default limit is 200; clients put all their watches on one connection.
#[tokio::test]
async fn a_thousand_requests_are_in_flight_on_one_connection() {
    let port = Port::start().await;
    port.fake.hold(true);
    let kv: KvClient<Channel> = port.kv().await;
    let mut puts = JoinSet::new();
    for i in 0..1000 {
        let mut kv = kv.clone();
        puts.spawn(async move { kv.put(put(&format!("{i}"), "")).await });
    }
    within(port.fake.held(1000)).await;
    port.fake.hold(false);
    while let Some(done) = within(puts.join_next()).await {
        done.unwrap().unwrap();
    }
}

/// A client that cancels many requests at once keeps its connection.
#[tokio::test]
async fn a_burst_of_cancelled_requests_is_no_attack() {
    let port = Port::start().await;
    let mut kv: KvClient<Channel> = port.kv().await;
    port.fake.hold(true);
    for _ in 0..5 {
        let mut puts = JoinSet::new();
        for i in 0..300 {
            let mut kv = kv.clone();
            puts.spawn(async move { kv.put(put(&format!("{i}"), "")).await });
        }
        tokio::task::yield_now().await;
        puts.shutdown().await;
    }
    port.fake.hold(false);
    kv.put(put("a", "1")).await.unwrap();
}
