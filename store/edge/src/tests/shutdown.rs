//! A graceful shutdown.

use std::time::Duration;

use keelson_proto::etcdserverpb::PutRequest;
use keelson_proto::health::HealthCheckRequest;
use keelson_proto::health::health_check_response::ServingStatus;
use keelson_proto::health::health_client::HealthClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Port, within};
use crate::{Backend, Limits};

fn put(key: String) -> PutRequest {
    PutRequest {
        key: key.into(),
        ..PutRequest::default()
    }
}

#[tokio::test]
async fn requests_in_flight_are_answered() {
    let mut port = Port::start().await;
    port.fake.hold(true);
    let mut puts = JoinSet::new();
    for connection in 0..4 {
        let kv = port.kv().await;
        for i in 0..100 {
            let mut kv = kv.clone();
            puts.spawn(async move { kv.put(put(format!("{connection}-{i}"))).await });
        }
    }
    within(port.fake.held(400)).await;
    let mut idle = port.connect().await;
    port.begin_shutdown();
    assert_eq!(within(idle.read(&mut [0])).await.unwrap(), 0);
    port.fake.hold(false);
    while let Some(done) = within(puts.join_next()).await {
        done.unwrap().unwrap();
    }
    let address = port.address;
    port.stopped().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let limits = Limits {
        drain_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let mut port = Port::with(limits).await;
    port.fake.hold(true);
    let mut kv = port.kv().await;
    let stuck = tokio::spawn(async move { kv.put(put("a".to_owned())).await });
    within(port.fake.held(1)).await;
    port.begin_shutdown();
    port.stopped().await;
    assert!(within(stuck).await.unwrap().is_err());
}

#[tokio::test]
async fn health_watches_get_the_shutdown_and_end() {
    let mut port = Port::start().await;
    let mut health = HealthClient::new(port.channel().await);
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    let serving = watch.message().await.unwrap().unwrap();
    assert_eq!(serving.status(), ServingStatus::Serving);
    port.begin_shutdown();
    let ending = within(watch.message()).await.unwrap().unwrap();
    assert_eq!(ending.status(), ServingStatus::NotServing);
    assert_eq!(within(watch.message()).await.unwrap(), None);
    drop(health);
    port.stopped().await;
}

#[tokio::test]
async fn streams_of_the_gateway_end_with_one_error() {
    let mut port = Port::start().await;
    let leader = PutRequest {
        key: "e/1".into(),
        ..PutRequest::default()
    };
    port.fake.put(leader).await.unwrap();
    let mut begun = Vec::new();
    for (path, body, first) in [
        (
            "watch",
            r#"{"create_request":{"key":"YQ=="}}"#,
            r#""created":true"#,
        ),
        ("election/observe", r#"{"name":"ZQ=="}"#, r#""key":"ZS8x""#),
    ] {
        let request = format!(
            "POST /v3/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = port.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.contains(first) {
            answer.push(within(socket.read_u8()).await.unwrap().into());
        }
        begun.push((socket, answer));
    }
    port.begin_shutdown();
    for (mut socket, mut answer) in begun {
        within(socket.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer.matches("server stopped").count(), 1, "{answer}");
        assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
    }
    port.stopped().await;
}
