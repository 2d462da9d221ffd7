//! Streams end at the deadlines of their clients, which may be gone without notice.

use bytes::{BufMut, BytesMut};
use futures_util::stream::{self, StreamExt};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use keelson_proto::health::HealthCheckRequest;
use keelson_proto::v3electionpb::LeaderRequest;
use prost::Message;

use super::{Port, raw, within};

fn watch() -> WatchRequest {
    let create = WatchCreateRequest {
        key: "a".into(),
        ..WatchCreateRequest::default()
    };
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

/// Calls a method with one message, after which the requests go on, and with a deadline. Returns
/// the code and the text at the end.
async fn ended(port: &Port, path: &str, message: &impl Message) -> (String, String) {
    ended_in(port, path, message, "50m").await
}

/// As [`ended`], with this timeout.
async fn ended_in(
    port: &Port,
    path: &str,
    message: &impl Message,
    timeout: &str,
) -> (String, String) {
    let (mut send, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(port.connect().await))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut framed).unwrap();
    let first = Ok::<_, std::convert::Infallible>(Frame::data(framed.freeze()));
    let request = Request::post(format!("{}{path}", port.url()))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(StreamBody::new(
            stream::iter([first]).chain(stream::pending()),
        ))
        .unwrap();
    let answer = within(send.send_request(request)).await.unwrap();
    let head = answer.headers().clone();
    let rest = within(answer.into_body().collect()).await.unwrap();
    let fields = rest.trailers().unwrap_or(&head);
    let field = |name| fields[name].to_str().unwrap().to_owned();
    (field("grpc-status"), field("grpc-message"))
}

#[tokio::test]
async fn streams_end_at_the_deadlines_of_their_clients() {
    let port = Port::start().await;
    let expected = ("4".to_owned(), "context%20deadline%20exceeded".to_owned());
    let watched = ended(&port, "/etcdserverpb.Watch/Watch", &watch()).await;
    assert_eq!(watched, expected, "watch");
    let renewal = LeaseKeepAliveRequest { id: 1 };
    let renewed = ended(&port, "/etcdserverpb.Lease/LeaseKeepAlive", &renewal).await;
    assert_eq!(renewed, expected, "keepalive");
    let election = LeaderRequest { name: "e".into() };
    let observed = ended(&port, "/v3electionpb.Election/Observe", &election).await;
    assert_eq!(observed, expected, "observe");
    let health = HealthCheckRequest::default();
    let health = ended(&port, "/grpc.health.v1.Health/Watch", &health).await;
    assert_eq!(health, expected, "health");
}

#[tokio::test]
async fn streams_of_the_gateway_end_at_the_deadlines_of_their_clients() {
    let port = Port::start().await;
    let body = r#"{"create_request":{"key":"YQ=="}}"#;
    let request = format!(
        "POST /v3/watch HTTP/1.1\r\nhost: x\r\nconnection: close\r\ngrpc-timeout: 50m\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw(&port, &request).await;
    assert!(answer.contains(r#""created":true"#), "{answer}");
    let end = r#"{"error":{"grpc_code":4,"http_code":504,"message":"context deadline exceeded""#;
    assert_eq!(answer.matches(r#"{"error""#).count(), 1, "{answer}");
    assert!(answer.contains(end), "{answer}");
}

/// Its change was made all the same.
#[tokio::test]
async fn a_call_whose_deadline_has_passed_is_not_begun() {
    let port = Port::start().await;
    let put = PutRequest {
        key: "a".into(),
        ..PutRequest::default()
    };
    let expected = ("4".to_owned(), "context%20deadline%20exceeded".to_owned());
    for (path, message) in [("KV/Put", put.encode_to_vec()), ("Watch/Watch", vec![])] {
        let path = format!("/etcdserverpb.{path}");
        let message = bytes::Bytes::from(message);
        assert_eq!(ended_in(&port, &path, &message, "0n").await, expected);
    }
    assert_eq!(port.fake.view().revision(), 1);
}
