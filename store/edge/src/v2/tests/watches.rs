//! Long polls and streams, parked or not.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, Port, ask, get, put, raw, read_until, start, within};

async fn send(port: &Port, target: &str) -> TcpStream {
    let mut socket = port.connect().await;
    let request = format!("GET /v2/keys{target} HTTP/1.1\r\nHost: x\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// Starts a watch and reads its head.
async fn waiting(port: &Port, target: &str) -> (TcpStream, String) {
    let mut socket = send(port, target).await;
    let head = read_until(&mut socket, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    (socket, head)
}

/// Reads the next chunk.
async fn chunk(socket: &mut TcpStream) -> String {
    let size = read_until(socket, "\r\n").await;
    let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    within(socket.read_exact(&mut chunk)).await.unwrap();
    String::from_utf8(chunk[..size].to_vec()).unwrap()
}

/// Waits until that many watches are registered.
async fn watchers(port: &Port, count: usize) {
    let counted = async {
        while port.fake.hub().count() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(counted).await;
}

#[tokio::test]
async fn a_long_poll_gets_its_head_at_once_and_then_one_event() {
    let port = start().await;
    let (mut socket, head) = waiting(&port, "/foo?wait=true").await;
    for header in [
        "Content-Type: application/json",
        "X-Etcd-Cluster-Id: beef",
        "X-Etcd-Index: 3",
        "X-Raft-Index: 11",
        "X-Raft-Term: 2",
        "Transfer-Encoding: chunked",
        "Access-Control-Allow-Origin: *",
    ] {
        assert!(
            head.contains(&format!("\r\n{header}\r\n")),
            "{header}: {head}"
        );
    }
    put(&port, "/v2/keys/bar", "value=0").await;
    put(&port, "/v2/keys/foo", "value=1").await;
    let event =
        r#"{"action":"set","node":{"key":"/foo","value":"1","modifiedIndex":5,"createdIndex":5}}"#;
    assert_eq!(chunk(&mut socket).await, format!("{event}\n"));
    assert_eq!(chunk(&mut socket).await, "");
    watchers(&port, 0).await;
    // The connection is still usable.
    let request = b"GET /v2/keys/foo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    within(socket.read_to_end(&mut answer)).await.unwrap();
    let answer = Answer::parse(&answer);
    assert_eq!(answer.text(), event.replace("set", "get") + "\n");
}

#[tokio::test]
async fn a_stream_goes_on_from_the_history() {
    let port = start().await;
    for key in ["a", "b"] {
        put(&port, &format!("/v2/keys/d/{key}"), "value=1").await;
    }
    let target = "/d?wait=true&recursive=true&stream=true&waitIndex=4";
    let (mut socket, head) = waiting(&port, target).await;
    assert!(head.contains("\r\nX-Etcd-Index: 5\r\n"), "{head}");
    put(&port, "/v2/keys/d/_hidden", "value=1").await;
    put(&port, "/v2/keys/e", "value=1").await;
    ask(&port, "DELETE", "/v2/keys/d?recursive=true", "", None).await;
    for event in [
        r#"{"action":"set","node":{"key":"/d/a","value":"1","modifiedIndex":4,"createdIndex":4}}"#,
        r#"{"action":"set","node":{"key":"/d/b","value":"1","modifiedIndex":5,"createdIndex":5}}"#,
        concat!(
            r#"{"action":"delete","node":{"key":"/d","dir":true,"modifiedIndex":8,"#,
            r#""createdIndex":4},"prevNode":{"key":"/d","dir":true,"modifiedIndex":4,"#,
            r#""createdIndex":4}}"#
        ),
    ] {
        assert_eq!(chunk(&mut socket).await, format!("{event}\n"));
    }
    drop(socket);
    watchers(&port, 0).await;
}

#[tokio::test]
async fn what_has_happened_is_answered_without_waiting() {
    let port = start().await;
    put(&port, "/v2/keys/foo", "value=1").await;
    let answer = get(&port, "/v2/keys/foo?wait=true&waitIndex=1").await;
    let event =
        r#"{"action":"set","node":{"key":"/foo","value":"1","modifiedIndex":4,"createdIndex":4}}"#;
    assert_eq!(answer.text(), format!("{event}\n"));
    assert!(answer.has("X-Etcd-Index: 4"));
}

#[tokio::test]
async fn a_cleared_history_is_an_error() {
    let port = start().await;
    for value in 0..1001 {
        put(&port, "/v2/keys/foo", &format!("value={value}")).await;
    }
    let answer = get(&port, "/v2/keys/foo?wait=true&waitIndex=1").await;
    assert_eq!(answer.status, "400 Bad Request");
    assert!(answer.has("X-Etcd-Index: 1004"));
    let expected = concat!(
        r#"{"errorCode":401,"message":"The event in requested index is outdated and cleared","#,
        r#""cause":"the requested history has been cleared [5/1]","index":1004}"#,
        "\n"
    );
    assert_eq!(answer.text(), expected);
}

/// fleet sends `waitIndex=0`, which means "from now on"; a future index is waited for.
#[tokio::test]
async fn zero_is_now_and_the_future_is_waited_for() {
    let port = start().await;
    put(&port, "/v2/keys/foo", "value=0").await;
    let (mut now, _) = waiting(&port, "/foo?wait=true&waitIndex=0").await;
    let (mut later, _) = waiting(&port, "/foo?wait=true&waitIndex=6").await;
    put(&port, "/v2/keys/foo", "value=1").await;
    put(&port, "/v2/keys/foo", "value=2").await;
    assert!(
        chunk(&mut now)
            .await
            .contains(r#""value":"1","modifiedIndex":5"#)
    );
    assert!(
        chunk(&mut later)
            .await
            .contains(r#""value":"2","modifiedIndex":6"#)
    );
}

#[tokio::test]
async fn a_refresh_wakes_nobody() {
    let port = start().await;
    put(&port, "/v2/keys/foo", "value=0&ttl=100").await;
    let (mut socket, _) = waiting(&port, "/foo?wait=true").await;
    let refresh = "refresh=true&prevExist=true&ttl=100";
    assert_eq!(put(&port, "/v2/keys/foo", refresh).await.status, "200 OK");
    put(&port, "/v2/keys/foo", "value=1").await;
    assert!(chunk(&mut socket).await.starts_with(r#"{"action":"set""#));
}

/// The answer ends without an event and without its final chunk.
async fn is_cut(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    within(socket.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// A cut answer is exit status 18 of curl. A complete one without an event is an error for
/// python-etcd and go-etcd.
#[tokio::test]
async fn a_watch_is_cut_and_not_ended_when_the_port_ends() {
    let mut port = start().await;
    let (mut poll, _) = waiting(&port, "/foo?wait=true").await;
    let (mut stream, _) = waiting(&port, "/?wait=true&recursive=true&stream=true").await;
    port.begin_shutdown();
    is_cut(&mut poll).await;
    is_cut(&mut stream).await;
    within(port.stopped()).await;
}

#[tokio::test]
async fn a_watch_is_cut_and_not_ended_when_the_member_stops() {
    let port = start().await;
    let (mut poll, _) = waiting(&port, "/foo?wait=true").await;
    let (mut stream, _) = waiting(&port, "/foo?wait=true&stream=true").await;
    port.fake.hub().cut_all();
    is_cut(&mut poll).await;
    is_cut(&mut stream).await;
}

#[tokio::test]
async fn clients_that_hang_up_are_forgotten() {
    let port = start().await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(waiting(&port, "/foo?wait=true&stream=true").await.0);
    }
    watchers(&port, 20).await;
    sockets.clear();
    watchers(&port, 0).await;
}

#[tokio::test]
async fn http_1_0_gets_a_body_that_ends_with_the_connection() {
    let port = start().await;
    let mut socket = port.connect().await;
    let request = b"GET /v2/keys/foo?wait=true HTTP/1.0\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let head = read_until(&mut socket, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    put(&port, "/v2/keys/foo", "value=1").await;
    let mut body = String::new();
    within(socket.read_to_string(&mut body)).await.unwrap();
    assert!(
        body.starts_with(r#"{"action":"set","node":{"key":"/foo""#),
        "{body}"
    );
}

#[tokio::test]
async fn over_http_2_the_body_is_a_stream() {
    let mut port = start().await;
    let io = TokioIo::new(port.connect().await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut send, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let mut streams = Vec::new();
    for target in ["/foo?wait=true", "/foo?wait=true&stream=true"] {
        let request = http::Request::get(format!("{}/v2/keys{target}", port.url()));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = within(send.send_request(request)).await.unwrap();
        assert_eq!(response.headers()["x-etcd-index"], "3");
        streams.push(response.into_body());
    }
    put(&port, "/v2/keys/foo", "value=1").await;
    for body in &mut streams {
        let frame = within(body.frame()).await.unwrap().unwrap();
        let data = frame.into_data().unwrap();
        assert!(data.starts_with(br#"{"action":"set""#) && data.ends_with(b"}\n"));
    }
    ends(&mut streams[0]).await;
    port.begin_shutdown();
    let cut = within(streams[1].frame()).await;
    assert!(cut.expect("no end").is_err(), "the stream is reset");
    drop(send);
    let _ = within(connection).await.unwrap();
    port.stopped().await;
}

/// The body ends with at most an empty frame.
async fn ends(body: &mut Incoming) {
    while let Some(frame) = within(body.frame()).await {
        assert!(frame.unwrap().into_data().unwrap().is_empty());
    }
}

/// A pipelined request is answered after the watch.
#[tokio::test]
async fn requests_sent_ahead_wait_for_the_watch() {
    let port = start().await;
    let mut socket = port.connect().await;
    let requests = "GET /v2/keys/foo?wait=true HTTP/1.1\r\nHost: x\r\n\r\n\
                    GET /v2/keys/foo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    socket.write_all(requests.as_bytes()).await.unwrap();
    read_until(&mut socket, "\r\n\r\n").await;
    put(&port, "/v2/keys/foo", "value=1").await;
    assert!(chunk(&mut socket).await.starts_with(r#"{"action":"set""#));
    assert_eq!(chunk(&mut socket).await, "");
    let mut answer = Vec::new();
    within(socket.read_to_end(&mut answer)).await.unwrap();
    assert!(
        Answer::parse(&answer)
            .text()
            .starts_with(r#"{"action":"get""#)
    );
}

#[tokio::test]
async fn a_wait_with_a_quorum_does_not_wait() {
    let port = start().await;
    let answer = raw(
        &port,
        b"GET /v2/keys/foo?wait=true&quorum=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(Answer::parse(&answer.await).status, "404 Not Found");
}
