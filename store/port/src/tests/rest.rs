//! Connections that rest, over real sockets.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::{Access, Incoming, Limits, Serve};

const PATIENCE: Duration = Duration::from_secs(20);

/// Two looks, and a little.
const UNTIL_REST: Duration = Duration::from_millis(300);

struct Done;

impl Serve for Done {
    type Body = Full<Bytes>;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        ready(Ok(Response::new(Full::new(Bytes::from_static(b"done")))))
    }
}

async fn start() -> (TcpStream, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    start_with(PATIENCE).await
}

/// A port whose clients may be idle for `time`.
async fn start_with(
    idle_timeout: Duration,
) -> (TcpStream, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let limits = Limits {
        head_timeout: PATIENCE,
        idle_timeout,
        ..Limits::default()
    };
    let server = tokio::spawn(async move {
        crate::serve(vec![listener], Done, limits, stopped)
            .await
            .unwrap();
    });
    (TcpStream::connect(address).await.unwrap(), stop, server)
}

async fn done(client: &mut TcpStream) {
    let mut read = vec![];
    while !read.ends_with(b"done") {
        let byte = timeout(PATIENCE, client.read_u8()).await;
        read.push(byte.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_request_ends_the_rest() {
    let (mut client, _stop, _) = start().await;
    for _ in 0..2 {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        done(&mut client).await;
        sleep(UNTIL_REST).await;
    }
    // Two requests at once; the second is not parsed while the first is answered.
    let two = b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n";
    client.write_all(two).await.unwrap();
    done(&mut client).await;
    done(&mut client).await;
}

#[tokio::test]
async fn half_a_head_is_not_lost_and_does_not_rest() {
    let (mut client, _stop, _) = start().await;
    client.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    sleep(UNTIL_REST).await;
    client.write_all(b"st: x\r\n\r\n").await.unwrap();
    done(&mut client).await;
}

#[tokio::test]
async fn a_client_at_rest_is_not_waited_for() {
    let (mut client, stop, server) = start().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    done(&mut client).await;
    sleep(UNTIL_REST).await;
    drop(stop);
    timeout(Duration::from_secs(2), server)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_rest_that_is_too_long_ends_the_connection() {
    let (mut client, _stop, _) = start_with(UNTIL_REST * 3).await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    done(&mut client).await;
    let closed = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
    assert_eq!(closed.unwrap(), 0);
}

/// curl '.../v2/keys/a?prevValue="x"', which Go's servers take.
#[tokio::test]
async fn a_target_with_quotes_is_taken() {
    let (mut client, _stop, _) = start().await;
    for _ in 0..2 {
        client
            .write_all(b"GET /a?prevValue=\"<x>\" HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        done(&mut client).await;
        sleep(UNTIL_REST).await;
    }
}

/// Reads all of a request before it answers.
struct Reads;

impl Serve for Reads {
    type Body = Full<Bytes>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(async {
            let read = request.into_body().collect().await;
            let text = if read.is_ok() { "done" } else { "half" };
            Ok(Response::new(Full::new(Bytes::from_static(
                text.as_bytes(),
            ))))
        })
    }
}

/// `kill` took 5 s while some client had sent half a request.
#[tokio::test]
async fn half_a_request_does_not_delay_the_end() {
    let head = "PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n";
    for half in [
        "PUT /a HT".to_owned(),
        head.to_owned(),
        format!("{head}\r\nvalue="),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let limits = Limits {
            drain_timeout: 3 * PATIENCE,
            ..Limits::default()
        };
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(crate::serve(vec![listener], Reads, limits, stopped));
        let mut client = TcpStream::connect(address).await.unwrap();
        // The port has it, all but certainly: an earlier request on the connection was answered.
        let first = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        client
            .write_all(&[first, half.as_bytes()].concat())
            .await
            .unwrap();
        done(&mut client).await;
        drop(stop);
        let ended = timeout(PATIENCE, server).await;
        ended.expect("not held up").unwrap().unwrap();
    }
}

/// A whole request is answered in the drain, however slowly the rest of it comes.
#[tokio::test]
async fn a_request_that_goes_on_is_answered_while_the_server_goes_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let serving = crate::serve(vec![listener], Reads, Limits::default(), stopped);
    let server = tokio::spawn(serving);
    let mut client = TcpStream::connect(address).await.unwrap();
    let requests = "GET / HTTP/1.1\r\nhost: x\r\n\r\n\
                    PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na";
    client.write_all(requests.as_bytes()).await.unwrap();
    done(&mut client).await;
    drop(stop);
    client.write_all(b"bc").await.unwrap();
    done(&mut client).await;
    timeout(PATIENCE, server).await.unwrap().unwrap().unwrap();
}

async fn refused(request: &str, status: &str) {
    let (mut client, _stop, _) = start().await;
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
        "{request}: {answer}"
    );
}

#[tokio::test]
async fn a_request_without_a_sound_host_is_refused() {
    for fields in ["", "host: a\r\nhost: a\r\n", "host: a/b c\r\n"] {
        refused(
            &format!("GET / HTTP/1.1\r\n{fields}\r\n"),
            "400 Bad Request",
        )
        .await;
    }
    let junk = "GET / HTTP/1.1\r\nhost: a\r\nexpect: junk\r\n\r\n";
    refused(junk, "417 Expectation Failed").await;
}

#[tokio::test]
async fn folded_headers_and_a_hundred_and_twenty_of_them_are_taken() {
    let (mut client, _stop, _) = start().await;
    let many: String = (0..120).map(|i| format!("x-{i}: y\r\n")).collect();
    for fields in ["x-a: 1\r\n 2\r\n", &many] {
        for _ in 0..2 {
            let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            done(&mut client).await;
        }
    }
}

/// `--cors`: every origin got "*". `--host-whitelist` was refused.
#[tokio::test]
async fn only_listed_origins_and_hosts_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopped) = oneshot::channel::<()>();
    let ui = "https://ui.example:443";
    let limits = Limits {
        access: Access::new(vec![ui.to_owned()], vec!["here".to_owned()]),
        ..Limits::default()
    };
    let stopped = async { drop(stopped.await) };
    tokio::spawn(crate::serve(vec![listener], Anyone, limits, stopped));
    for (host, origin, status, allowed) in [
        ("here:2379", ui, "200 OK", Some(ui)),
        ("here", "https://evil.example:443", "200 OK", None),
        ("evil.example", ui, "421 Misdirected Request", None),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(PATIENCE, client.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        let mut lines = answer.lines();
        let found = lines.find_map(|line| line.strip_prefix("Access-Control-Allow-Origin: "));
        assert_eq!(found, allowed, "{host} {origin}");
    }
}

/// Answers with headers that let pages of any origin read the answer.
struct Anyone;

impl Serve for Anyone {
    type Body = Full<Bytes>;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        let mut response = Response::new(Full::default());
        crate::allow_origin(response.headers_mut(), http::HeaderValue::from_static("*"));
        ready(Ok(response))
    }
}
