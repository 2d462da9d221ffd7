//! Calls of one account that wait leave room for those of others.

use std::sync::Arc;

use axum::body::Body;
use http::StatusCode;
use http_body_util::BodyExt;
use keelson_port::Drain;
use keelson_proto::etcdserverpb::*;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::transport::Channel;
use tower::ServiceExt;

use super::auth::{enabled, with_token};
use super::*;
use crate::turns::TurnLimits;
use crate::v3::Services;
use crate::{Unread, gateway};

/// More than may be in work of one account.
const FLOOD: usize = 2_100;
const OF_ONE: usize = 2_048;

fn put(token: Option<&str>) -> Request<PutRequest> {
    let put = PutRequest {
        key: "a".into(),
        ..PutRequest::default()
    };
    match token {
        Some(token) => with_token(token, put),
        None => Request::new(put),
    }
}

fn range(token: Option<&str>) -> Request<RangeRequest> {
    let range = RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    };
    match token {
        Some(token) => with_token(token, range),
        None => Request::new(range),
    }
}

/// Holds puts back, and sends more than may be in work. Then `other` reads, and all end.
async fn flooded(
    port: &Port,
    flood: KvClient<Channel>,
    token: Option<&str>,
    mut other: KvClient<Channel>,
    others: Option<&str>,
) {
    port.fake.hold(true);
    let begin = |_| {
        let (mut kv, put) = (flood.clone(), put(token));
        tokio::spawn(async move { kv.put(put).await })
    };
    let calls: Vec<_> = (0..FLOOD).map(begin).collect();
    within(port.fake.held(OF_ONE)).await;
    let mut own = flood.clone();
    let mut waits = Box::pin(own.range(range(token)));
    let read = within(async {
        tokio::select! {
            _ = &mut waits => panic!("it waits for the others of its account"),
            read = other.range(range(others)) => read,
        }
    });
    read.await.unwrap();
    within(port.fake.held(OF_ONE)).await;
    port.fake.hold(false);
    within(waits).await.unwrap();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_calls_of_one_connection_leave_room_for_anothers() {
    let port = Port::start().await;
    let (flood, other) = (port.kv().await, port.kv().await);
    flooded(&port, flood, None, other, None).await;
}

#[tokio::test]
async fn the_calls_of_one_user_leave_room_for_anothers_on_its_connection() {
    let (port, _auth, alice, root) = enabled().await;
    let kv = port.kv().await;
    flooded(&port, kv.clone(), Some(&alice), kv, Some(&root)).await;
}

/// Calls of the JSON gateway are in their user's account, as those over gRPC.
#[tokio::test]
async fn the_gateways_calls_wait_for_those_of_their_user_alone() {
    let (port, _auth, alice, root) = enabled().await;
    let flood = KvClient::new(super::auth::channel(&port).await);
    port.fake.hold(true);
    let begin = |_| {
        let (mut kv, put) = (flood.clone(), put(Some(&alice)));
        tokio::spawn(async move { kv.put(put).await })
    };
    let calls: Vec<_> = (0..FLOOD).map(begin).collect();
    within(port.fake.held(OF_ONE)).await;
    let read = async |token: &str| {
        let body = "{\"key\":\"YQ==\"}";
        let length = body.len();
        let request = format!(
            "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: {token}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        raw(&port, &request).await
    };
    let mut own = Box::pin(read(&alice));
    let others = within(async {
        tokio::select! {
            _ = &mut own => panic!("it waits for the others of its account"),
            others = read(&root) => others,
        }
    });
    assert!(others.await.starts_with("HTTP/1.1 200 OK"));
    port.fake.hold(false);
    assert!(own.await.starts_with("HTTP/1.1 200 OK"));
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

/// The gateway with a small admission.
#[derive(Clone)]
struct SmallGateway(Router);

impl SmallGateway {
    fn new(port: &Port) -> SmallGateway {
        let limits = TurnLimits {
            in_work: 4,
            of_one: 2,
            waiting: 6,
        };
        let services = Services::new(
            port.fake.clone(),
            Unread::default(),
            Default::default(),
            Routes::default(),
            Drain::default(),
        );
        let services = Arc::new(services.with_turns(limits));
        SmallGateway(gateway::router(services))
    }

    async fn ask(self, path: &'static str, token: String) -> (StatusCode, String) {
        let request = http::Request::post(path).header("authorization", token);
        let request = request.body(Body::from(r#"{"key":"YQ=="}"#)).unwrap();
        let (head, body) = self.0.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// What is too much of one user is refused at once, and costs another one nothing.
#[tokio::test]
async fn the_gateway_refuses_the_flood_of_one_user_and_serves_another() {
    let (port, _auth, alice, root) = enabled().await;
    let gateway = SmallGateway::new(&port);
    port.fake.hold(true);
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        calls.spawn(gateway.clone().ask("/v3/kv/put", alice.clone()));
    }
    // Two are in work, and two wait.
    for _ in 0..6 {
        let (status, body) = within(calls.join_next()).await.unwrap().unwrap();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let text = "etcdserver: too many requests";
        let expected = json!({"error": text, "message": text, "code": 2, "details": []});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    }
    within(port.fake.held(2)).await;
    let (status, body) = within(gateway.clone().ask("/v3/kv/range", root.clone())).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    port.fake.hold(false);
    for _ in 0..4 {
        let (status, body) = within(calls.join_next()).await.unwrap().unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let (status, body) = within(gateway.ask("/v3/kv/put", root)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}
