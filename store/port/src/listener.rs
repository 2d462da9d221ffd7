//! The accept loops of a port, and its graceful end.
//!
//! The caller brings the service: the client port and the peer port differ in nothing else. One
//! connection is in `connection.rs`.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time;
use tracing::{debug, warn};

use crate::connection::{self, Port, Wanted};
use crate::descriptors::Slots;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::serve::Serve;
use crate::socket::Socket;
use crate::tls::ServerTls;

/// The waits after a failed accept, as in Go's net/http. Mostly the process has no file descriptor,
/// and only time helps.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Go's TCP keep-alive, which etcd's sockets have. It detects peers that vanished without a FIN.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A bound socket and its protocols: HTTP, HTTP over TLS, or both.
#[derive(Debug)]
pub struct Listener {
    /// Where connections come from.
    pub socket: Socket,
    /// `None`: plain HTTP.
    pub tls: Option<ServerTls>,
    /// Plain HTTP beside TLS, as etcd serves an address that is listed as http and as https.
    pub both: bool,
}

impl Listener {
    /// A socket of one of the two.
    pub fn new(socket: impl Into<Socket>, tls: Option<ServerTls>) -> Listener {
        Listener {
            socket: socket.into(),
            tls,
            both: false,
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Listener {
        Listener::new(socket, None)
    }
}

/// Serves on every listener until `shutdown`, then waits for what is in flight, at
/// most `limits.drain_timeout`.
pub async fn serve<S: Serve>(
    listeners: Vec<impl Into<Listener>>,
    service: S,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (trigger, drain) = Drain::channel();
    let (closing, closes) = Drain::channel();
    let slots = limits.slots.clone();
    let port = Arc::new(Port::new(service, limits));
    let timeout = port.limits.drain_timeout;
    let mut loops = JoinSet::new();
    for listener in listeners {
        let (port, slots) = (Arc::clone(&port), slots.clone());
        let ends = [closes.clone(), drain.clone()];
        loops.spawn(accept_loop(listener.into(), port, slots, ends));
    }
    tokio::select! {
        () = shutdown => {}
        Some(ended) = loops.join_next() => return Err(io::Error::other(panicked(ended))),
    }
    closing.begin();
    let connections = closed(loops).await;
    // Only now: a client whose connection is closed reconnects, and must not reach a port that is
    // closing.
    trigger.begin();
    let mut draining = JoinSet::new();
    for connections in connections {
        draining.spawn(drain_connections(connections, timeout));
    }
    while draining.join_next().await.is_some() {}
    Ok(())
}

/// Accept loops end at shutdown only; anything else is a bug in them.
fn panicked(ended: Result<Connections, tokio::task::JoinError>) -> String {
    match ended {
        Ok(_) => "an accept loop ended".to_owned(),
        Err(error) => format!("an accept loop ended: {error}"),
    }
}

/// Waits until all ports are closed: the connections that came through them.
async fn closed(mut loops: JoinSet<Connections>) -> Vec<Connections> {
    let mut connections = Vec::new();
    while let Some(ended) = loops.join_next().await {
        match ended {
            Ok(left) => connections.push(left),
            Err(error) => warn!(%error, "an accept loop ended badly"),
        }
    }
    connections
}

/// The connections of one listener.
type Connections = JoinSet<()>;

/// Ends with the first of the two, leaving the connections, which end with the second.
async fn accept_loop<S: Serve>(
    listener: Listener,
    port: Arc<Port<S>>,
    slots: Slots,
    [closes, drain]: [Drain; 2],
) -> Connections {
    let Listener {
        socket: listener,
        tls,
        both,
    } = listener;
    let wanted = Wanted {
        plain: both || tls.is_none(),
        tls,
    };
    let mut connections = JoinSet::new();
    let begun = closes.begun();
    tokio::pin!(begun);
    loop {
        let accepted = async {
            let slot = slots.take().await;
            (accept(&listener).await, slot)
        };
        tokio::select! {
            () = &mut begun => break,
            (socket, slot) = accepted => {
                let (port, drain, wanted) = (Arc::clone(&port), drain.clone(), wanted.clone());
                connections.spawn(connection::serve(socket, port, wanted, drain, slot));
            }
            Some(ended) = connections.join_next() => reap(ended),
        }
    }
    connections
}

/// Waits for the connections, then cuts those that are left.
async fn drain_connections(mut connections: Connections, timeout: Duration) {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            reap(ended);
        }
    };
    if time::timeout(timeout, all).await.is_err() {
        warn!(
            left = connections.len(),
            "cutting connections that did not drain"
        );
        connections.shutdown().await;
    }
}

/// A request handler that panicked takes its own HTTP/1.1 connection with it, and nothing else.
fn reap(ended: Result<(), tokio::task::JoinError>) {
    match ended {
        Err(error) if error.is_panic() => warn!(%error, "a connection ended in a panic"),
        _ => {}
    }
}

/// The next connection. Errors are waited out: a listener that gives up is a member that is gone.
async fn accept(listener: &Socket) -> TcpStream {
    let mut backoff = BACKOFF_MIN;
    loop {
        match listener.accept().await {
            Ok(socket) => {
                prepare(&socket);
                return socket;
            }
            // The client closed the connection while it waited in the backlog.
            Err(error) if gone_already(&error) => continue,
            Err(error) => {
                warn!(%error, wait_ms = backoff.as_millis(), "cannot accept connections");
                time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

fn gone_already(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Without nodelay an answer may wait for the client's delayed acknowledgement, 40 ms.
fn prepare(socket: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let prepared = socket
        .set_nodelay(true)
        .and_then(|()| SockRef::from(socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = prepared {
        // The client has disconnected; the next read fails.
        debug!(%error, "cannot set socket options");
    }
}
