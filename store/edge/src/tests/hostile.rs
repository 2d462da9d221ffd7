//! Clients that misbehave.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_proto::etcdserverpb::PutRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Port, http, raw, within};
use keelson_port::Slots;

use crate::Limits;

fn impatient() -> Limits {
    let short = Duration::from_millis(200);
    Limits {
        first_bytes_timeout: short,
        head_timeout: short,
        ..Limits::default()
    }
}

/// The server closes the connection, with at most an error.
async fn is_cut(mut socket: TcpStream) {
    let mut answer = Vec::new();
    // A reset closes it as well.
    let _ = within(socket.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn silence_is_cut() {
    let port = Port::with(impatient()).await;
    is_cut(port.connect().await).await;
    let mut half = port.connect().await;
    half.write_all(b"PR").await.unwrap();
    is_cut(half).await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut() {
    let port = Port::with(impatient()).await;
    let mut socket = port.connect().await;
    let started = Instant::now();
    let head = b"GET /version HTTP/1.1\r\nhost: x\r\nx-slow: "
        .iter()
        .chain([b'a'; 10_000].iter());
    for byte in head {
        if socket.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    is_cut(socket).await;
}

#[tokio::test]
async fn an_idle_connection_is_not_a_slow_head() {
    let port = Port::with(impatient()).await;
    let mut socket = port.connect().await;
    for _ in 0..3 {
        let request = b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n";
        socket.write_all(request).await.unwrap();
        let mut answer = [0; 4096];
        let read = within(socket.read(&mut answer)).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
        // Longer than the timeout of a head.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    socket.write_all(b"GET /version HT").await.unwrap();
    is_cut(socket).await;
}

#[tokio::test]
async fn a_first_request_in_small_pieces_is_recognised() {
    let port = Port::start().await;
    let mut socket = port.connect().await;
    for piece in [
        "P",
        "O",
        "ST /version HTTP/1.1\r\n",
        "host: x\r\nconnection: close\r\n\r\n",
    ] {
        socket.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let port = Port::start().await;
    let long = "x".repeat(Limits::default().head_bytes_max * 2);
    let answer = raw(&port, &format!("GET / HTTP/1.1\r\nx-long: {long}")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn tls_is_turned_away() {
    let port = Port::start().await;
    let mut socket = port.connect().await;
    socket
        .write_all(b"\x16\x03\x01\x00\x05hello")
        .await
        .unwrap();
    is_cut(socket).await;
}

#[tokio::test]
async fn more_connections_than_allowed_wait() {
    let limits = Limits {
        slots: Slots::of_clients().at_most(2),
        ..Limits::default()
    };
    let port = Port::with(limits).await;
    let first = port.connect().await;
    let mut second = port.connect().await;
    let hold = b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n";
    second.write_all(hold).await.unwrap();
    second.read_u8().await.unwrap();
    let third = http(&port, "GET", "/version");
    tokio::pin!(third);
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut third).await;
    assert!(waited.is_err(), "there was no room");
    drop(first);
    assert!(within(third).await.0.starts_with("HTTP/1.1 200 OK"));
}

/// A gRPC request without a library: the status and message of the answer.
async fn grpc(port: &Port, message: &[u8]) -> (String, String) {
    grpc_within(port, message, "60S").await
}

/// A gRPC request with that `grpc-timeout`.
async fn grpc_within(port: &Port, message: &[u8], patience: &str) -> (String, String) {
    let io = TokioIo::new(port.connect().await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut send, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    let request = http::Request::post(format!("{}/etcdserverpb.KV/Put", port.url()))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", patience)
        .body(Full::<Bytes>::new(framed.freeze()))
        .unwrap();
    let response = within(send.send_request(request)).await.unwrap();
    let (parts, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned();
    let fields = trailers.unwrap_or(parts.headers);
    let field = |name| fields.get(name).map_or("", |value| value.to_str().unwrap());
    let answer = (
        field("grpc-status").to_owned(),
        field("grpc-message").to_owned(),
    );
    drop(send);
    within(connection).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_call_ends_when_its_client_waits_no_longer() {
    let port = Port::start().await;
    port.fake.hold(true);
    let put = PutRequest {
        key: "a".into(),
        ..PutRequest::default()
    };
    let put = prost::Message::encode_to_vec(&put);
    let (status, message) = within(grpc_within(&port, &put, "50m")).await;
    let message = message.replace("%20", " ");
    assert_eq!((&*status, &*message), ("4", "context deadline exceeded"));
}

#[tokio::test]
async fn what_is_no_protobuf_is_refused_and_the_server_goes_on() {
    let port = Port::start().await;
    for malformed in [&b"\xff\xff\xff\xff"[..], b"\x0a\x7fshort", b"\x0b"] {
        let (status, message) = grpc(&port, malformed).await;
        assert_eq!(status, "13");
        let prefix = "grpc:%20error%20unmarshalling%20request:";
        assert!(message.starts_with(prefix), "{message}");
    }
    let put = PutRequest {
        key: "a".into(),
        ..PutRequest::default()
    };
    let (status, _) = grpc(&port, &prost::Message::encode_to_vec(&put)).await;
    assert_eq!(status, "0");
}

/// A half-closed connection, as by `nc` at the end of its input.
#[tokio::test]
async fn a_client_that_only_closes_its_sending_side_is_answered() {
    let port = Port::start().await;
    for _ in 0..50 {
        let mut socket = port.connect().await;
        let request = b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n";
        socket.write_all(request).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = String::new();
        within(socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}
