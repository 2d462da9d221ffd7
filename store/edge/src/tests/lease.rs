//! Leases over gRPC and JSON.

use futures_util::stream;
use http::uri::PathAndQuery;
use keelson_core::state::LEASE_TTL_MAX;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::*;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::gateway::post;
use super::{Port, within};

async fn client(port: &Port) -> LeaseClient<Channel> {
    LeaseClient::new(port.channel().await)
}

fn grant(id: i64, ttl: i64) -> LeaseGrantRequest {
    LeaseGrantRequest { id, ttl }
}

fn renew(id: i64) -> LeaseKeepAliveRequest {
    LeaseKeepAliveRequest { id }
}

#[tokio::test]
async fn leases_have_etcds_answers_codes_and_texts() {
    let port = Port::start().await;
    let mut leases = client(&port).await;
    let granted = leases
        .lease_grant(grant(7, 100))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((granted.id, granted.ttl, &granted.error[..]), (7, 100, ""));
    let mut kv = port.kv().await;
    let attached = PutRequest {
        key: "a".into(),
        lease: 7,
        ..PutRequest::default()
    };
    kv.put(attached.clone()).await.unwrap();
    let request = LeaseTimeToLiveRequest { id: 7, keys: true };
    let times = leases
        .lease_time_to_live(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((times.ttl, times.granted_ttl), (100, 100));
    assert_eq!(times.keys, ["a"]);
    let all = leases.lease_leases(LeaseLeasesRequest {}).await.unwrap();
    assert_eq!(all.into_inner().leases, [LeaseStatus { id: 7 }]);
    for (refused, code, text) in [
        (
            grant(7, 1),
            Code::FailedPrecondition,
            "etcdserver: lease already exists",
        ),
        (
            grant(8, LEASE_TTL_MAX + 1),
            Code::OutOfRange,
            "etcdserver: too large lease TTL",
        ),
    ] {
        let status = leases.lease_grant(refused).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let request = LeaseRevokeRequest { id: 7 };
    leases.lease_revoke(request).await.unwrap();
    let status = leases.lease_revoke(request).await.unwrap_err();
    let expected = (Code::NotFound, "etcdserver: requested lease not found");
    assert_eq!((status.code(), status.message()), expected);
    let status = kv.put(attached).await.unwrap_err();
    assert_eq!((status.code(), status.message()), expected);
    let request = LeaseTimeToLiveRequest { id: 7, keys: true };
    let absent = leases.lease_time_to_live(request).await.unwrap();
    assert_eq!(absent.into_inner().ttl, -1);
}

#[tokio::test]
async fn each_renewal_has_one_answer_in_order_and_an_absent_lease_a_time_of_0() {
    let port = Port::start().await;
    let mut leases = client(&port).await;
    leases.lease_grant(grant(7, 100)).await.unwrap();
    let ids = [7, 8, 7, 9, 7];
    let requests = tokio_stream::iter(ids.map(renew));
    let answers = leases.lease_keep_alive(requests).await.unwrap();
    let answers: Vec<_> = within(answers.into_inner().collect()).await;
    let answers = answers.into_iter().map(|answer| answer.unwrap());
    let answers: Vec<_> = answers.map(|answer| (answer.id, answer.ttl)).collect();
    assert_eq!(answers, [(7, 100), (8, 0), (7, 100), (9, 0), (7, 100)]);
}

/// Clients give a lease up for codes other than `Unavailable` (etcd#21671).
#[tokio::test]
async fn a_renewal_without_an_outcome_ends_the_call_with_unavailable() {
    let port = Port::start().await;
    let mut leases = client(&port).await;
    port.fake.set(|now| now.leaderless = true);
    let requests = tokio_stream::iter([renew(7), renew(8)]);
    let answers = leases.lease_keep_alive(requests).await.unwrap();
    let answers: Vec<_> = within(answers.into_inner().collect()).await;
    let [Err(status)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn renewals_of_one_call_that_wait_are_bounded() {
    let mut port = Port::start().await;
    let mut leases = client(&port).await;
    port.fake.hold(true);
    let (requests, received) = mpsc::unbounded_channel();
    for id in 0..10_000 {
        requests.send(renew(id)).unwrap();
    }
    let received = UnboundedReceiverStream::new(received);
    let mut answers = leases
        .lease_keep_alive(received)
        .await
        .unwrap()
        .into_inner();
    within(port.fake.held(128)).await;
    // Another call is served meanwhile.
    leases.lease_grant(grant(7, 100)).await.unwrap();
    within(port.fake.held(128)).await;
    port.fake.hold(false);
    for id in 0..10_000 {
        assert_eq!(within(answers.next()).await.unwrap().unwrap().id, id);
    }
    // A call whose client has nothing to renew ends with the port.
    port.begin_shutdown();
    let status = within(answers.next()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn leases_are_served_in_json() {
    let port = Port::start().await;
    let body = r#"{"ID":"7","TTL":"100"}"#;
    let (head, granted) = post(&port, "/v3/lease/grant", body).await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && granted.contains(r#""TTL":"100""#),
        "{granted}"
    );
    let (_, renewed) = post(&port, "/v3/lease/keepalive", r#"{"ID":7}"#).await;
    assert!(renewed.contains(r#""ID":"7","TTL":"100"}}"#), "{renewed}");
    let (_, times) = post(&port, "/v3/kv/lease/timetolive", r#"{"ID":"7"}"#).await;
    assert!(times.contains(r#""grantedTTL":"100""#), "{times}");
    let (head, revoked) = post(&port, "/v3beta/lease/revoke", r#"{"ID":"8"}"#).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert!(
        revoked.contains("etcdserver: requested lease not found"),
        "{revoked}"
    );
}

/// Each of thousands of streams could keep a message of 2 MB that has begun.
#[tokio::test]
async fn a_renewal_that_is_larger_than_any_is_refused() {
    let port = Port::start().await;
    let large = PutRequest {
        key: vec![b'x'; 1100].into(),
        ..PutRequest::default()
    };
    let mut grpc = Grpc::new(port.channel().await);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    let codec = ProstCodec::<PutRequest, LeaseKeepAliveResponse>::default();
    let requests = Request::new(stream::iter([large]).chain(stream::pending()));
    let answers = grpc.streaming(requests, path, codec).await.unwrap();
    let status = within(answers.into_inner().message()).await.unwrap_err();
    let text = "grpc: received message larger than max (1103 vs. 1024)";
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, text)
    );
    let padded = format!(r#"{{"ID":"7","x":"{}"}}"#, "x".repeat(2048));
    let (_, answer) = post(&port, "/v3/lease/keepalive", &padded).await;
    assert!(
        answer.contains("grpc: received message larger than max"),
        "{answer}"
    );
}
