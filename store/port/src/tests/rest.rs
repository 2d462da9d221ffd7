//! Connections that rest, over real sockets.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::{Limits, Serve};

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

/// With clients who may rest for so long.
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
    // Two at once, of which one is looked at by nobody while the other is answered.
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
