//! The TCP gateway.

use std::net::SocketAddr;
use std::time::Duration;

use keelson_proxy::{GatewayConfig, GatewayError, serve_gateway};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Client, Fake, answer, get, until};

pub(crate) async fn gateway(endpoints: Vec<String>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = GatewayConfig::new(endpoints);
    config.retry_delay = Duration::from_millis(100);
    let task = tokio::spawn(async move {
        serve_gateway(config, vec![listener], || {}, std::future::pending())
            .await
            .unwrap();
    });
    (address, task)
}

#[tokio::test]
async fn connections_take_turns_and_pass_over_the_dead() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let two = Fake::start(|_| answer("200 OK", "two")).await;
    let endpoint = one.url().replace("http://", "");
    let (gateway, task) = gateway(vec![endpoint, two.url()]).await;
    let mut client = Client::connect(gateway).await;
    let first = client.ask("GET", "/", "").await.body;
    // The same connection, the same endpoint.
    assert_eq!(client.ask("GET", "/", "").await.body, first);
    assert_ne!(get(gateway, "/").await.body, first);
    let address = one.kill().await;
    for _ in 0..4 {
        assert_eq!(get(gateway, "/").await.body, "two");
    }
    let _one = Fake::start_at(address, |_| answer("200 OK", "one")).await;
    until("it is found again", async || {
        get(gateway, "/").await.body == "one"
    })
    .await;
    task.abort();
}

#[tokio::test]
async fn without_endpoints_it_does_not_start() {
    let none = serve_gateway(GatewayConfig::new(vec![]), vec![], || {}, async {}).await;
    assert!(matches!(none, Err(GatewayError::NoEndpoints)));
}

#[tokio::test]
async fn before_itself_it_does_not_start() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = format!("localhost:{}", listener.local_addr().unwrap().port());
    let config = GatewayConfig::new(vec!["127.0.0.1:1".to_owned(), own]);
    let refused = serve_gateway(config, vec![listener], || {}, std::future::pending()).await;
    assert!(matches!(refused, Err(GatewayError::Loop(_))), "{refused:?}");
}

/// A gateway, one connection through it, and what the endpoint has of it.
async fn joined() -> (TcpStream, TcpStream, JoinHandle<()>) {
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (gateway, task) = gateway(vec![endpoint.local_addr().unwrap().to_string()]).await;
    let near = TcpStream::connect(gateway).await.unwrap();
    let (far, _) = endpoint.accept().await.unwrap();
    (near, far, task)
}

#[tokio::test]
async fn either_side_may_end_first_and_still_listen() {
    for turned in [false, true] {
        let (near, far, task) = joined().await;
        let (mut first, mut second) = match turned {
            false => (near, far),
            true => (far, near),
        };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut heard = String::new();
        second.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        second.write_all(b"answer").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        second.write_all(b", later").await.unwrap();
        drop(second);
        let mut heard = String::new();
        first.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer, later");
        task.abort();
    }
}

/// Sends so many bytes, each by its position, and the end.
async fn send(to: &mut (impl AsyncWrite + Unpin), length: usize, salt: usize) {
    let bytes: Vec<_> = (0..length)
        .map(|at| (at / 7 + salt).to_le_bytes()[0])
        .collect();
    to.write_all(&bytes).await.unwrap();
    to.shutdown().await.unwrap();
}

async fn receive(from: &mut (impl AsyncRead + Unpin), length: usize, salt: usize) {
    let mut bytes = vec![];
    from.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), length);
    let wrong = (0..length).find(|at| bytes[*at] != (at / 7 + salt).to_le_bytes()[0]);
    assert_eq!(wrong, None);
}

#[tokio::test]
async fn much_goes_both_ways_at_once() {
    const NEAR: usize = 24 * 1024 * 1024 + 1;
    const FAR: usize = 16 * 1024 * 1024 + 3;
    let (mut near, mut far, task) = joined().await;
    let (mut near_read, mut near_write) = near.split();
    let (mut far_read, mut far_write) = far.split();
    tokio::join!(
        send(&mut near_write, NEAR, 1),
        send(&mut far_write, FAR, 2),
        receive(&mut far_read, NEAR, 1),
        receive(&mut near_read, FAR, 2),
    );
    task.abort();
}

#[tokio::test]
async fn a_side_that_does_not_take_holds_up_the_other() {
    let (near, mut far, task) = joined().await;
    let part = vec![1; 1024 * 1024];
    let mut sent = 0;
    // Until no buffer between has room.
    while let Ok(ready) = tokio::time::timeout(Duration::from_millis(300), near.writable()).await {
        ready.unwrap();
        sent += near.try_write(&part).unwrap_or_default();
        assert!(sent < 64 * 1024 * 1024, "it takes all there is");
    }
    drop(near);
    let mut bytes = vec![];
    far.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), sent);
    task.abort();
}

#[tokio::test]
async fn a_connection_that_is_cut_is_cut_on_the_other_side() {
    let (near, mut far, task) = joined().await;
    near.set_zero_linger().unwrap();
    drop(near);
    let mut part = [0; 16];
    let cut = tokio::time::timeout(Duration::from_secs(5), far.read(&mut part)).await;
    assert!(matches!(cut.unwrap(), Ok(0) | Err(_)));
    task.abort();
}

#[tokio::test]
async fn many_rest_and_all_still_work() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let (gateway, task) = gateway(vec![one.url()]).await;
    let mut clients = vec![];
    for _ in 0..300 {
        clients.push(Client::connect(gateway).await);
    }
    for _ in 0..2 {
        for client in &mut clients {
            assert_eq!(client.ask("GET", "/", "").await.body, "one");
        }
    }
    drop(clients);
    one.has_no_connection().await;
    task.abort();
}
