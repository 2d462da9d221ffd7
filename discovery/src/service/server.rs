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
use keelson_port::{ServerTls, Wire, expect_tls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time;
use tracing::{debug, warn};

use super::handler::Handler;
use super::limits::{ConnectionPlace, Connections};
use super::metrics::{Limit, Metrics};
use super::registry::{Body, Registry};
use super::{ServiceOptions, answers};

/// Bound on the head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The pause after a failed accept: usually the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then drains for `drain_timeout`.
pub async fn serve<R: Registry>(
    listener: TcpListener,
    registry: Arc<R>,
    options: ServiceOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let acceptor = Acceptor {
        listener,
        slots: Arc::new(Semaphore::new(options.connections_max)),
        places: Connections::new(options.connections_per_address_max),
        metrics: Arc::clone(&metrics),
    };
    let server = Arc::new(Server {
        tls: options.tls.clone(),
        head_timeout: options.head_timeout,
        drain_timeout: options.drain_timeout,
        handler: Handler::new(registry, options, metrics),
    });
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = acceptor.next() => accepted?,
        };
        connections.spawn(Arc::clone(&server).connection(accepted, stopped.clone()));
    }
    drop((acceptor, stop));
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Accepts connections within the limits.
struct Acceptor {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    places: Connections,
    metrics: Arc<Metrics>,
}

/// An accepted connection with its place, which is freed when it ends.
struct Accepted {
    stream: TcpStream,
    from: IpAddr,
    _slot: OwnedSemaphorePermit,
    _place: ConnectionPlace,
}

impl Acceptor {
    /// The next connection. Cancel safe.
    async fn next(&self) -> io::Result<Accepted> {
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
                return Ok(Accepted {
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

struct Server<R> {
    handler: Handler<R>,
    tls: Option<ServerTls>,
    head_timeout: Duration,
    drain_timeout: Duration,
}

impl<R: Registry> Server<R> {
    /// Serves one connection until it ends or the service stops. Dropping a request's future ends
    /// its wait at the registry.
    async fn connection(
        self: Arc<Server<R>>,
        accepted: Accepted,
        mut stopped: watch::Receiver<()>,
    ) {
        let Accepted {
            stream,
            from,
            _slot,
            _place,
        } = accepted;
        // An optimisation: the connection works without it.
        let _ = stream.set_nodelay(true);
        let expected = expect_tls(stream, self.tls.is_some(), self.head_timeout);
        let stream = tokio::select! {
            begun = expected => match begun {
                Ok(Some(stream)) => stream,
                Ok(None) => return debug!(%from, "a connection of another protocol"),
                Err(error) => return debug!(%error, %from, "a connection did not begin"),
            },
            // No request has been read.
            _ = stopped.changed() => return,
        };
        let Some(tls) = &self.tls else {
            return self.requests(stream, from, stopped).await;
        };
        match time::timeout(self.head_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.requests(stream, from, stopped).await,
            Ok(Err(error)) => debug!(%error, %from, "a TLS handshake failed"),
            Err(_) => debug!(%from, "a TLS handshake took too long"),
        }
    }

    async fn requests(
        self: &Arc<Server<R>>,
        stream: impl Wire,
        from: IpAddr,
        mut stopped: watch::Receiver<()>,
    ) {
        let server = Arc::clone(self);
        let service = service_fn(move |request| answer(Arc::clone(&server), from, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            // The sender sends no value: its drop is the signal.
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                match time::timeout(self.drain_timeout, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, %from, "a connection failed");
        }
    }
}

async fn answer<R: Registry>(
    server: Arc<Server<R>>,
    from: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    if let Some(refused) = keelson_port::refusal(&parts) {
        return Ok(refused.map(answers::body));
    }
    let request = Request::from_parts(parts, body);
    Ok(server.handler.handle(from, request).await)
}
