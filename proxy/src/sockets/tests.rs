//! The permits for sockets to members.

use std::pin::pin;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::{MembersFrom, ProxyConfig};
use crate::context::Context;
use crate::http1::exchange::{self, Reply};
use crate::http1::request::UpstreamRequest;
use crate::policy::endpoint::{Endpoint, Health};
use crate::policy::watch::{self, Started, WatchRequest};

const WAITS: &str = "HTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENT: &str = "{\"node\":{\"modifiedIndex\":9}}\n";

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_connection_has_so_many_waits_and_gives_them_back() {
    let sockets: &Sockets = Box::leak(Box::new(Sockets::new(1000)));
    let waits = Arc::new(Watches::new(sockets));
    let (one, other) = (address(1), address(2));
    let count = sockets.client_watches_max;
    let mut places: Vec<_> = (0..count).map_while(|_| waits.begin(one)).collect();
    assert_eq!(places.len(), count);
    assert!(waits.begin(one).is_none());
    drop(waits.begin(other).unwrap());
    places.pop();
    assert!(waits.begin(one).is_some());
    places.clear();
    assert!(waits.by_client.lock().is_empty());
}

/// One of each client of HTTP/1.1, and as many as possible over HTTP/2.
#[test]
fn waits_leave_sockets_to_members_for_other_requests() {
    for connections in [16, 70, 874, 3946, 19_850] {
        let sockets: &Sockets = Box::leak(Box::new(Sockets::new(connections)));
        let waits = Arc::new(Watches::new(sockets));
        let begun = (0..u16::MAX).map_while(|port| waits.begin(address(port)));
        let begun: Vec<_> = begun.collect();
        assert_ne!(begun.len(), 0, "{connections}");
        let waiting = clients_of(connections) + begun.len();
        let all = sockets.all.available_permits();
        assert!(waiting < all, "{connections}: {waiting} of {all}");
        assert!(all + clients_of(connections) <= connections);
    }
}

/// A member that sends this to the first request, and keeps the connection open. Returns its URL.
async fn member(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert_ne!(socket.read(&mut [0; 1024]).await.unwrap(), 0);
        socket.write_all(text.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    url
}

/// A proxy that may open so many sockets to members.
fn proxy(count: usize) -> Arc<Context> {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    // A socket that is waited for in vain fails the test, and is not waited for long.
    config.request_timeout = Duration::from_secs(5);
    Arc::new(Context {
        sockets: Sockets::with(count),
        ..Context::new(config, vec![])
    })
}

#[tokio::test]
async fn a_wait_that_goes_on_elsewhere_needs_no_second_socket() {
    let chunk = format!("{:x}\r\n{EVENT}\r\n0\r\n\r\n", EVENT.len());
    let (silent, other) = (
        member(WAITS.to_owned()).await,
        member(format!("{WAITS}{chunk}")).await,
    );
    let proxy = proxy(1);
    let silent = proxy.endpoints.update(&[silent]).await.remove(0);
    let wait = WatchRequest::new("/v2/keys/a?wait=true", b"");
    let (_, started) = watch::start(&proxy, wait, None).await.ok().unwrap();
    let Started::Watching(events) = started else {
        panic!("it does not wait");
    };
    let mut parts = pin!(events.into_stream());
    let urls = [silent.url.clone(), other];
    proxy.endpoints.update(&urls).await;
    proxy.endpoints.set_health(&silent, Health::Down);
    assert_eq!(parts.next().await.unwrap().unwrap(), EVENT);
}

/// Members that answer a request immediately.
async fn members<const N: usize>(proxy: &Context) -> [Arc<Endpoint>; N] {
    let mut urls = vec![];
    for _ in 0..N {
        urls.push(member("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()).await);
    }
    proxy.endpoints.update(&urls).await.try_into().ok().unwrap()
}

async fn get(endpoint: &Arc<Endpoint>, proxy: &Context) -> Reply {
    let mut request = UpstreamRequest::watch("/v2/keys/a", b"");
    let reply = exchange::exchange(endpoint, &mut request, proxy).await;
    reply.unwrap()
}

#[tokio::test]
async fn an_idle_connection_is_closed_for_one_that_is_needed() {
    let proxy = proxy(2);
    let [idle, works, needed] = members(&proxy).await;
    get(&idle, &proxy).await.begin().unwrap();
    let _works = get(&works, &proxy).await;
    get(&needed, &proxy).await;
}

#[tokio::test]
async fn a_connection_does_not_idle_while_a_request_waits_for_its_permit() {
    let proxy = proxy(1);
    let [works, needed] = members(&proxy).await;
    let works = get(&works, &proxy).await;
    // The first one waits when the second is looked at.
    tokio::join!(biased; get(&needed, &proxy), async {
        works.begin().unwrap();
    });
}
