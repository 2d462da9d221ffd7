//! The accept loop and its connections.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time;
use tracing::{debug, warn};

use super::handler::Handler;
use super::limits::{Connections, Place};
use super::metrics::{Limit, Metrics};
use super::registry::{Body, Registry};
use super::{ServiceOptions, answers};

/// The head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// After a failed accept: out of file descriptors, mostly, and nothing but time helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, and then for as long as `drain_timeout` says.
pub async fn serve<R: Registry>(
    listener: TcpListener,
    registry: Arc<R>,
    options: ServiceOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let door = Door {
        listener,
        slots: Arc::new(Semaphore::new(options.connections_max)),
        places: Connections::new(options.connections_per_address_max),
        metrics: Arc::clone(&metrics),
    };
    let port = Arc::new(Port {
        head_timeout: options.head_timeout,
        drain_timeout: options.drain_timeout,
        handler: Handler::new(registry, options, metrics),
    });
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let guest = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            guest = door.next() => guest?,
        };
        connections.spawn(Arc::clone(&port).connection(guest, stopped.clone()));
    }
    drop((door, stop));
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Where connections come in, no more of them than there is room for.
struct Door {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    places: Connections,
    metrics: Arc<Metrics>,
}

/// A connection and its place, which it gives back at its end.
struct Guest {
    stream: TcpStream,
    from: IpAddr,
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

impl Door {
    /// May be dropped and called again: nothing is lost.
    async fn next(&self) -> io::Result<Guest> {
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let slot = slot.map_err(io::Error::other)?;
            let (stream, from) = match self.listener.accept().await {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Some(place) = self.places.take(from) {
                return Ok(Guest {
                    stream,
                    from,
                    _slot: slot,
                    _place: place,
                });
            }
            self.metrics.refused(Limit::Connections);
            debug!(%from, "too many connections from this address");
        }
    }
}

struct Port<R> {
    handler: Handler<R>,
    head_timeout: Duration,
    drain_timeout: Duration,
}

impl<R: Registry> Port<R> {
    /// One connection, to its end or ours. Dropping a request's future ends its wait upstream.
    async fn connection(self: Arc<Port<R>>, guest: Guest, mut stopped: watch::Receiver<()>) {
        let from = guest.from;
        // Only helps.
        let _ = guest.stream.set_nodelay(true);
        let port = Arc::clone(&self);
        let service = service_fn(move |request| answer(Arc::clone(&port), from, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(guest.stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            // The sender is never used: its end is the signal.
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                match time::timeout(self.drain_timeout, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, %from, "a connection ended badly");
        }
    }
}

async fn answer<R: Registry>(
    port: Arc<Port<R>>,
    from: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    if let Some(refused) = keelson_port::refusal(&parts) {
        return Ok(refused.map(answers::body));
    }
    let request = Request::from_parts(parts, body);
    Ok(port.handler.handle(from, request).await)
}
