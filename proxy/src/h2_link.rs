//! The HTTP/2 connection to a member; one, which all calls share.

use std::io;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keelson_port::Protocol;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tracing::debug;

use crate::address::Address;
use crate::call_body::CallBody;

/// A stream that its client does not read holds up to so much of a connection's window...
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// ...and must not hold up the others: as large as a window may be.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// A member that is gone without a word is noticed while calls wait. Seldom enough for etcd, which
/// closes connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Connected when first needed, and again when the connection has ended.
#[derive(Default)]
pub(crate) struct Link(Mutex<Option<Open>>);

struct Open {
    sender: SendRequest<CallBody>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Calls in flight have senders of their own, and end it when they are over.
        if self.sender.is_closed() {
            self.task.abort();
        }
    }
}

impl Link {
    /// A sender of the connection, which is made when there is none.
    pub(crate) async fn sender(
        &self,
        address: &Address,
        timeout: Duration,
    ) -> io::Result<SendRequest<CallBody>> {
        let mut open = self.0.lock().await;
        if let Some(open) = open.as_ref().filter(|open| !open.sender.is_closed()) {
            return Ok(open.sender.clone());
        }
        let new = connect(address, timeout).await?;
        let sender = new.sender.clone();
        *open = Some(new);
        Ok(sender)
    }

    /// Lets it go; calls in flight end as they may.
    pub(crate) async fn close(&self) {
        *self.0.lock().await = None;
    }
}

/// What HTTP/2 runs over. One type, lest hyper's machinery be there twice.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn socket(address: &Address, timeout: Duration) -> io::Result<Box<dyn Io>> {
    let socket = address.connect(timeout).await?;
    let Some(tls) = address.tls() else {
        return Ok(Box::new(socket));
    };
    let shaking = tls.connect(address.host(), Protocol::Http2, socket);
    Ok(Box::new(tokio::time::timeout(timeout, shaking).await??))
}

async fn connect(address: &Address, timeout: Duration) -> io::Result<Open> {
    let socket = TokioIo::new(socket(address, timeout).await?);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let shaking = builder.handshake(socket);
    let shaken = tokio::time::timeout(timeout, shaking).await?;
    let (sender, connection) = shaken.map_err(io::Error::other)?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "an HTTP/2 connection to a member ended");
        }
    });
    Ok(Open {
        sender,
        task: task.abort_handle(),
    })
}
