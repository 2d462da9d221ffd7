//! The TCP gateway.

use std::net::SocketAddr;
use std::time::Duration;

use keelson_proxy::{GatewayConfig, GatewayError, serve_gateway};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{Client, Fake, answer, get};

async fn gateway(endpoints: Vec<String>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = GatewayConfig::new(endpoints);
    config.retry_delay = Duration::from_millis(100);
    let task = tokio::spawn(async move {
        serve_gateway(config, vec![listener], std::future::pending())
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
    tokio::time::sleep(Duration::from_millis(400)).await;
    let again = [get(gateway, "/").await.body, get(gateway, "/").await.body];
    assert!(again.contains(&"one".to_owned()));
    task.abort();
}

#[tokio::test]
async fn without_endpoints_it_does_not_start() {
    let none = serve_gateway(GatewayConfig::new(vec![]), vec![], async {}).await;
    assert!(matches!(none, Err(GatewayError::NoEndpoints)));
}
