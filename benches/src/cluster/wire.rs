//! The thinnest transport under tonic's clients: one hyper HTTP/2 connection, no reconnecting, no
//! buffer task in between. The load generator shares two cores with the servers it measures, so
//! every microsecond of it counts (`tonic::transport::Channel` costs a third more).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use tokio::net::TcpStream;
use tonic::body::Body;

/// Flow-control windows; large, so that they never limit.
const WINDOW: u32 = 4 << 20;

/// One connection.
#[derive(Clone, Debug)]
pub struct Wire {
    sender: SendRequest<Body>,
}

/// A KV client over one connection.
pub type Kv = KvClient<Wire>;

/// Connects to a member.
///
/// # Errors
/// The member does not accept.
pub async fn connect(url: &str) -> Result<Kv> {
    let origin: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    Ok(KvClient::with_origin(open(url).await?, origin))
}

/// Opens a connection to a member.
///
/// # Errors
/// The member does not accept.
pub async fn open(url: &str) -> Result<Wire> {
    let origin: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let authority = origin
        .authority()
        .with_context(|| format!("{url} names no host"))?;
    let stream = TcpStream::connect(authority.as_str()).await?;
    stream.set_nodelay(true)?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // It ends when the last sender is dropped; its error shows in every request.
    tokio::spawn(connection);
    Ok(Wire { sender })
}

impl tower::Service<Request<Body>> for Wire {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
