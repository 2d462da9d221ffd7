//! One connection: its protocol is detected, it is served, and it ends gracefully.

mod h1;
mod h2;
mod spoken;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;
use tracing::{debug, info};

pub(crate) use self::h1::answer;
use self::h1::{h1_builder, serve_h1};
use self::h2::h2_builder;
pub(crate) use self::h2::{Peer, serve_h2};
use self::spoken::{Spoken, spoken};
use crate::drain::Drain;
use crate::limits::Limits;
use crate::secure;
use crate::serve::Serve;
use crate::tls::ServerTls;

/// A port: its service and its settings.
pub(crate) struct Port<S> {
    pub(crate) service: S,
    pub(crate) h1: http1::Builder,
    h2: http2::Builder<TokioExecutor>,
    pub(crate) limits: Limits,
}

impl<S: Serve> Port<S> {
    pub(crate) fn new(service: S, limits: Limits) -> Port<S> {
        Port {
            service,
            h1: h1_builder(&limits),
            h2: h2_builder(&limits),
            limits,
        }
    }
}

/// What may be spoken on a connection.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) tls: Option<ServerTls>,
    /// HTTP without TLS.
    pub(crate) plain: bool,
}

/// Serves a connection to its end. The task itself: one more around it would hold much of it twice.
pub(crate) async fn serve<S: Serve>(
    socket: TcpStream,
    port: Arc<Port<S>>,
    wanted: Wanted,
    drain: Drain,
    _slot: impl Send,
) {
    let (port, tls) = (&*port, wanted.tls.as_ref());
    let mut begun = pin!(drain.clone().begun());
    let spoken = tokio::select! {
        // Boxed, here and below: futures that few connections need, or only for a short time.
        spoken = Box::pin(spoken(&socket, port.limits.first_bytes_timeout)) => spoken,
        // No request has been read, so none is lost.
        () = &mut begun => return,
    };
    let ended = match (spoken, tls) {
        (Ok(Spoken::Nothing), _) => return,
        (Err(error), _) => {
            debug!(%error, "no first bytes");
            return;
        }
        (Ok(Spoken::Tls), Some(tls)) => {
            Box::pin(secure::serve(socket, port, tls, &drain, begun)).await
        }
        (Ok(Spoken::Tls), None) => {
            info!(
                "remote-addr" = %client_of(&socket),
                "closed a connection that speaks TLS to a port without: use http:// at the \
                 client, or https:// in the listen URLs with the flags for its certificate"
            );
            return secure::refuse_tls(socket, port.limits.first_bytes_timeout).await;
        }
        (Ok(spoken), _) if !wanted.plain => {
            info!(
                "remote-addr" = %client_of(&socket),
                "closed a connection without TLS to a port with TLS: use https:// at the client"
            );
            if matches!(spoken, Spoken::Http1) {
                secure::refuse_plain_http(socket, port.limits.first_bytes_timeout).await;
            }
            return;
        }
        (Ok(Spoken::Http2), _) => {
            let client = client_of(&socket);
            Box::pin(serve_h2(socket, (client, false), port, begun)).await
        }
        (Ok(Spoken::Http1), _) => serve_h1(socket, port, &drain, begun).await,
    };
    if let Err(error) = ended {
        // Clients hang up in many ways; none of them is worth a line by default.
        debug!(%error, "connection ended");
    }
}

/// Returns a connection that begins as a server expects which is not this crate's: with TLS or
/// without. Another one is answered as at the ports here, and closed.
///
/// # Errors
/// It does not begin within `timeout`, or breaks.
pub async fn expect_tls(
    socket: TcpStream,
    with_tls: bool,
    timeout: Duration,
) -> io::Result<Option<TcpStream>> {
    match (spoken(&socket, timeout).await?, with_tls) {
        (Spoken::Nothing, _) | (Spoken::Http2, true) => Ok(None),
        (Spoken::Tls, true) | (Spoken::Http1 | Spoken::Http2, false) => Ok(Some(socket)),
        (Spoken::Tls, false) => {
            secure::refuse_tls(socket, timeout).await;
            Ok(None)
        }
        (Spoken::Http1, true) => {
            secure::refuse_plain_http(socket, timeout).await;
            Ok(None)
        }
    }
}

/// The peer's address. A client of a Unix socket has none, nor has one that has disconnected. Each
/// gets the next port of the unspecified address, since limits per client are counted by address.
pub(crate) fn client_of(socket: &TcpStream) -> SocketAddr {
    static NAMELESS: AtomicU16 = AtomicU16::new(0);
    socket.peer_addr().unwrap_or_else(|_| {
        let port = NAMELESS.fetch_add(1, Ordering::Relaxed);
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{Socket, connect_unix};

    #[tokio::test]
    async fn clients_of_a_unix_socket_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = Socket::unix(&path).unwrap();
        let path = path.to_str().unwrap();
        let mut clients = Vec::new();
        for _ in 0..2 {
            let (_client, accepted) = tokio::join!(connect_unix(path), socket.accept());
            clients.push(client_of(&accepted.unwrap()));
        }
        assert_ne!(clients[0], clients[1]);
    }
}
