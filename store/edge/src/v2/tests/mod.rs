//! The v2 API over real sockets, with the real tree and the real hub.

mod crowded;
mod direct;
mod fake;
mod hostile;
mod members;
mod recorded;
mod stats;
mod unavailable;
mod watches;

use keelson_proto::internal::ClusterVersion;
use keelson_proto::internal::command::Op;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::service::Routes;

use crate::tests::{Port, within};
use crate::{CallMetrics, Limits, serve_clients, v2};

/// A port whose tree has the index of a fresh etcd's.
async fn start() -> Port {
    with(Limits::default()).await
}

async fn with(limits: Limits) -> Port {
    let port = Port::serving(move |fake, listeners, shutdown| {
        for _ in 0..3 {
            let version = "3.4.0".to_owned();
            let applied = fake.apply(Op::ClusterVersion(ClusterVersion { version }));
            applied.unwrap().unwrap();
        }
        async move {
            let backend = fake.clone();
            let more = move |drain: &_| crate::More {
                interceptor: v2::V2::new(backend, drain, CallMetrics::default()),
                routes: Routes::default(),
                router: axum::Router::default(),
                gate: None,
                unread: Default::default(),
                calls: Default::default(),
                tracer: None,
                rates: Default::default(),
            };
            serve_clients(fake, listeners, limits, more, shutdown).await
        }
    })
    .await;
    assert_eq!(port.fake.view().tree_index(), 3);
    port
}

/// A parsed answer.
struct Answer {
    /// "200 OK"
    status: String,
    /// "Name: value"
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
        let mut answer = Answer {
            status: status.to_owned(),
            headers: lines.map(str::to_owned).collect(),
            body: bytes[end + 4..].to_vec(),
        };
        if answer.has("Transfer-Encoding: chunked") {
            answer.body = unchunked(&answer.body);
        }
        answer
    }

    fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|had| had == header)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|end| end == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}

/// Sends a request unchanged and reads until the server closes.
async fn raw(port: &Port, request: &[u8]) -> Vec<u8> {
    let mut socket = port.connect().await;
    // A server that refuses a request may close before it has read all of it.
    let _ = socket.write_all(request).await;
    let mut answer = Vec::new();
    let _ = within(socket.read_to_end(&mut answer)).await;
    answer
}

/// Sends one request with further headers and an optional body, on a new connection.
async fn ask(port: &Port, method: &str, target: &str, headers: &str, body: Option<&str>) -> Answer {
    let length = body.map(|body| format!("Content-Length: {}\r\n", body.len()));
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{}\r\n{}",
        length.unwrap_or_default(),
        body.unwrap_or_default()
    );
    Answer::parse(&raw(port, request.as_bytes()).await)
}

async fn get(port: &Port, target: &str) -> Answer {
    ask(port, "GET", target, "", None).await
}

/// Sends a form.
async fn put(port: &Port, target: &str, body: &str) -> Answer {
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    ask(port, "PUT", target, form, Some(body)).await
}

/// Reads until `end` has arrived.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    while !read.ends_with(end) {
        let byte = within(socket.read_u8()).await;
        read.push(char::from(byte.unwrap_or_else(|_| panic!("{read}"))));
    }
    read
}
