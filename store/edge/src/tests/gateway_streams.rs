//! The JSON gateway before services that repeat what they are sent: every path, streams, metadata.
//! The shapes of the answers were recorded from etcd 3.4.23 and 3.5.1 with curl.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body as HttpBody;
use futures_util::stream::StreamExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use keelson_port::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::service::Routes;
use tower::ServiceExt;

use super::echo::Echo;
use super::{Port, within};
use crate::gateway;
use crate::service::PortServices;
use crate::{Limits, Unread};

/// Answers a request without a port.
async fn post(echo: Echo, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::post(path).body(HttpBody::from(body.to_owned()));
    let router = gateway::router(Arc::new(echo));
    let answer = within(router.oneshot(request.unwrap())).await.unwrap();
    let status = answer.status();
    let body = within(answer.into_body().collect()).await.unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// A port of the gateway before the services.
async fn port() -> Port {
    Port::serving(|_, listeners, shutdown| {
        let (trigger, drain) = Drain::channel();
        let echo = Echo {
            drain,
            ..Echo::default()
        };
        let router = gateway::router(Arc::new(echo));
        let services = PortServices::new(Routes::default().prepare(), (), router);
        keelson_port::serve(listeners, services, Limits::default(), async move {
            shutdown.await;
            trigger.begin();
        })
    })
    .await
}

/// Paths below `/v3` and their methods, as in etcd's swagger files.
const PATHS: &str = include_str!("gateway_paths.txt");

#[tokio::test]
async fn every_path_of_etcd_reaches_its_method() {
    let router = gateway::router(Arc::new(Echo::default()));
    for line in PATHS.lines() {
        let (path, method) = line.split_once(' ').unwrap();
        for prefix in ["/v3", "/v3beta", "/v3alpha"] {
            let request = Request::post(format!("{prefix}/{path}"));
            let request = request.body(HttpBody::from("{}")).unwrap();
            let answer = within(router.clone().oneshot(request)).await.unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED, "{path}");
            let body = within(answer.into_body().collect()).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
            assert_eq!(body["message"], method, "{path}");
        }
    }
}

#[tokio::test]
async fn a_lease_is_kept_alive_by_one_request() {
    let kept = "{\"result\":{\"ID\":\"77\",\"TTL\":\"100\"}}\n";
    let lost = "{\"result\":{\"ID\":\"78\"}}\n";
    for (body, expected) in [
        (r#"{"ID":"77"}"#, kept.to_owned()),
        (r#"{"ID":77}{"ID":"78"}"#, format!("{kept}{lost}")),
        ("{\"ID\":\"77\"}\n{\"ID\":78}\n", format!("{kept}{lost}")),
        // As in etcd, a malformed message after the first ends the requests.
        (r#"{"ID":"77"}garbage"#, kept.to_owned()),
        (r#"{"ID":"77"}{"ID":"x"}{"ID":"77"}"#, kept.to_owned()),
        ("", String::new()),
    ] {
        let answer = post(Echo::default(), "/v3/lease/keepalive", body).await;
        assert_eq!(answer, (StatusCode::OK, expected), "{body}");
    }
}

#[tokio::test]
async fn an_error_before_the_first_message_has_its_status() {
    let malformed = r#"{"error":"WHY","message":"WHY","code":3,"details":[]}"#;
    let base64 = "illegal base64 data at input byte 0";
    let shape = concat!(
        r#"{"error":{"grpc_code":CODE,"http_code":HTTP,"message":"TEXT","http_status":"NAME","#,
        r#""code":CODE,"details":[]}}"#,
    );
    let failed = |code: &str, http: &str, text: &str, name: &str| {
        let shape = shape.replace("CODE", code).replace("HTTP", http);
        shape.replace("TEXT", text).replace("NAME", name) + "\n"
    };
    for (path, body, status, expected) in [
        (
            "/v3/watch",
            r#"{"create_request":{"key":"!!"}}"#,
            400,
            malformed.replace("WHY", base64),
        ),
        (
            "/v3/lease/keepalive",
            "{",
            400,
            malformed.replace("WHY", "unexpected EOF"),
        ),
        (
            "/v3/election/observe",
            "{}",
            500,
            failed("2", "500", "election: no leader", "Internal Server Error"),
        ),
        (
            "/v3/lease/keepalive",
            r#"{"ID":"9"}"#,
            503,
            failed("14", "503", "etcdserver: no leader", "Service Unavailable"),
        ),
    ] {
        let (found, text) = post(Echo::default(), path, body).await;
        assert_eq!((found.as_u16(), text), (status, expected), "{path} {body}");
    }
}

/// Ten thousand levels in a field that exists, and in one that does not.
#[tokio::test]
async fn deep_json_is_bounded_on_every_kind_of_path() {
    let txn = r#"{"success":[{"request_txn":"#.repeat(10_000);
    let (status, body) = post(Echo::default(), "/v3/kv/txn", &txn).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("exceeded max depth"), "{body}");
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for (path, expected) in [
        ("/v3/kv/range", StatusCode::NOT_IMPLEMENTED),
        ("/v3/lease/keepalive", StatusCode::OK),
        ("/v3/maintenance/snapshot", StatusCode::OK),
    ] {
        let (status, body) = post(Echo::default(), path, &deep).await;
        assert_eq!(status, expected, "{body}");
    }
}

#[tokio::test]
async fn messages_are_taken_only_as_their_chunks_are_sent() {
    let echo = Echo::default();
    let sent = Arc::clone(&echo.sent);
    let request = Request::post("/v3/maintenance/snapshot").body(HttpBody::empty());
    let router = gateway::router(Arc::new(echo));
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    let mut chunks = answer.into_body().into_data_stream();
    for taken in 1..=3 {
        let chunk = within(chunks.next()).await.unwrap().unwrap();
        assert!(chunk.starts_with(b"{\"result\":{") && chunk.ends_with(b"}}\n"));
        assert_eq!(sent.load(Ordering::SeqCst), taken);
    }
    let last = within(chunks.next()).await.unwrap().unwrap();
    assert!(
        last.starts_with(b"{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"gone\"")
    );
    assert!(within(chunks.next()).await.is_none());
}

/// A connection that has begun a request whose body goes on.
async fn begin(port: &Port, path: &str) -> TcpStream {
    let mut socket = port.connect().await;
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

async fn send(socket: &mut TcpStream, piece: &str) {
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    socket.write_all(chunk.as_bytes()).await.unwrap();
}

/// Reads up to the end of a line.
async fn line(socket: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(within(socket.read_u8()).await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

/// Reads one chunk.
async fn chunk(socket: &mut TcpStream) -> String {
    let bytes = usize::from_str_radix(line(socket).await.trim_end(), 16).unwrap();
    let mut chunk = vec![0; bytes + 2];
    within(socket.read_exact(&mut chunk)).await.unwrap();
    let chunk = String::from_utf8(chunk).unwrap();
    chunk.strip_suffix("\r\n").unwrap().to_owned()
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head += &line(socket).await;
    }
    head
}

#[tokio::test]
async fn each_message_is_answered_with_one_chunk_while_the_request_goes_on() {
    let port = port().await;
    let mut socket = begin(&port, "/v3/lease/keepalive").await;
    send(&mut socket, r#"{"ID":"77"}{"I"#).await;
    let head = head(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: application/json\r\n"));
    assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"));
    let kept = "{\"result\":{\"ID\":\"77\",\"TTL\":\"100\"}}\n";
    assert_eq!(chunk(&mut socket).await, kept);
    send(&mut socket, r#"D":"78"}"#).await;
    assert_eq!(chunk(&mut socket).await, "{\"result\":{\"ID\":\"78\"}}\n");
    send(&mut socket, r#"{"ID":77}"#).await;
    assert_eq!(chunk(&mut socket).await, kept);
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(chunk(&mut socket).await, "");
}

#[tokio::test]
async fn a_stream_ends_with_an_error_when_the_member_stops() {
    let mut port = port().await;
    let mut socket = begin(&port, "/v3/watch").await;
    send(&mut socket, r#"{"create_request":{"key":"Zm9v"}}"#).await;
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    head(&mut socket).await;
    assert_eq!(
        chunk(&mut socket).await,
        "{\"result\":{\"created\":true}}\n"
    );
    port.begin_shutdown();
    let last = chunk(&mut socket).await;
    assert!(
        last.contains(r#""message":"etcdserver: server stopped""#),
        "{last}"
    );
    assert_eq!(chunk(&mut socket).await, "");
    port.stopped().await;
}

#[tokio::test]
async fn the_token_reaches_the_services_with_and_without_its_scheme() {
    let router = gateway::router(Arc::new(Echo::default()));
    for value in ["abc.7", "Bearer abc.7"] {
        let request = Request::post("/v3/auth/authenticate").header("authorization", value);
        let request = request.body(HttpBody::from("{}")).unwrap();
        let answer = within(router.clone().oneshot(request)).await.unwrap();
        let body = within(answer.into_body().collect()).await.unwrap();
        assert_eq!(body.to_bytes(), r#"{"token":"abc.7"}"#, "{value}");
    }
}

/// The room for unread messages is shared by all connections. Time is paused: the wait for room is
/// over at once.
#[tokio::test(start_paused = true)]
async fn a_message_without_room_ends_its_stream() {
    let echo = Echo {
        unread: Unread::within(100 * 1024),
        ..Echo::default()
    };
    let request = Request::post("/v3/maintenance/snapshot").body(HttpBody::empty());
    let router = gateway::router(Arc::new(echo));
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    let mut chunks = answer.into_body().into_data_stream();
    let unread = chunks.next().await.unwrap().unwrap();
    assert!(unread.starts_with(b"{\"result\":"));
    let last = chunks.next().await.unwrap().unwrap();
    assert!(
        String::from_utf8_lossy(&last).contains("etcdserver: too many requests"),
        "{} bytes",
        last.len()
    );
    assert!(chunks.next().await.is_none());
}
