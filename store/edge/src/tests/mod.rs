//! The edge over real sockets, with a fake member.

mod auth;
mod certificates;
mod deadlines;
mod echo;
mod election;
mod etcdctl;
mod fairness;
pub(crate) mod fake;
mod gateway;
mod gateway_bodies;
mod gateway_streams;
mod grpc;
mod hostile;
mod http1;
pub(crate) mod hub;
mod jwt;
mod keepalive;
mod lagging;
mod leader;
mod lease;
mod lock;
mod rates;
mod shutdown;
mod streams;
mod traces;
mod turns;
mod unread;
mod watch;

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};

use self::fake::Fake;
use super::Limits;

/// Resolves when the server must stop.
pub(crate) type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A port that serves a fake member.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Fake,
    shutdown: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Port {
    async fn start() -> Port {
        Port::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Port {
        Port::serving(move |fake, listeners, shutdown| async move {
            let more = |_: &_| super::More::<()>::default();
            super::serve_clients(fake, listeners, limits, more, shutdown).await
        })
        .await
    }

    /// A peer port.
    async fn peer() -> Port {
        Port::serving(move |fake, listeners, shutdown| async move {
            let (routes, router) = (Routes::default(), Router::new());
            super::serve_peers(fake, listeners, Limits::default(), routes, router, shutdown).await
        })
        .await
    }

    pub(crate) async fn serving<F>(
        serve: impl FnOnce(Fake, Vec<TcpListener>, Shutdown) -> F,
    ) -> Port
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Fake::new(address);
        let (trigger, shutdown) = oneshot::channel();
        let shutdown: Shutdown = Box::pin(async { shutdown.await.unwrap() });
        let server = tokio::spawn(serve(fake.clone(), vec![listener], shutdown));
        Port {
            address,
            fake,
            shutdown: Some(trigger),
            server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.url()).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) fn begin_shutdown(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Stops the port; every request was drained.
    pub(crate) async fn stopped(self) {
        within(self.server).await.unwrap().unwrap();
    }
}

/// Fails the test after a timeout.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), future).await;
    waited.expect("in time")
}

/// Sends `request` unchanged and reads until the server closes.
async fn raw(port: &Port, request: &str) -> String {
    let mut socket = port.connect().await;
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(socket.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Sends an HTTP/1.1 request without a body; returns the head and the body of the answer.
async fn http(port: &Port, method: &str, path: &str) -> (String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = raw(port, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}
