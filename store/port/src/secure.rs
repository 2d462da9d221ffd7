//! A TLS connection: the handshake, then the protocol that ALPN selected.
//!
//! Parked answers and idle connections keep hyper's buffers here. The bare socket carries
//! ciphertext, and the TLS state would have to be kept anyway.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Extensions;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::PeerIncompatible;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;
use tracing::{debug, info};

use crate::connection::{self, Peer, Port};
use crate::drain::Drain;
use crate::filtered::Filtered;
use crate::head_clock::HeadClock;
use crate::head_mender::HeadMender;
use crate::incoming::Incoming;
use crate::serve::Serve;
use crate::tls::{ClientName, H2, ServerTls};

/// Serves a connection that begins with a TLS handshake.
pub(crate) async fn serve<S: Serve>(
    socket: TcpStream,
    port: &Port<S>,
    tls: &ServerTls,
    drain: &Drain,
    mut begun: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> hyper::Result<()> {
    let client = connection::client_of(&socket);
    // A client that stops in the middle holds nothing for long: GHSA-6vch of etcd.
    let shaking = time::timeout(port.limits.first_bytes_timeout, tls.accept(socket));
    let shaken = tokio::select! {
        shaken = shaking => shaken.unwrap_or_else(|late| Err(late.into())),
        () = &mut begun => return Ok(()),
    };
    // rustls has verified it against the CA, where there is one to ask for certificates.
    let name = shaken.as_ref().ok().and_then(|stream| {
        let chain = stream.get_ref().1.peer_certificates()?;
        ClientName::of(chain.first()?)
    });
    match shaken {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(H2) => {
            let peer = Peer {
                address: client,
                secure: true,
                name,
            };
            connection::serve_h2(stream, peer, port, begun).await
        }
        Ok(stream) => serve_h1(stream, (client, name), port, drain, begun).await,
        Err(error) => {
            rejected(client, &error);
            Ok(())
        }
    }
}

/// Answers a request that came without TLS, as Go's servers do, and closes the connection.
pub(crate) async fn refuse_plain_http(socket: TcpStream, timeout: Duration) {
    const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\n\
        Client sent an HTTP request to an HTTPS server.\n";
    refuse(socket, ANSWER, timeout).await;
}

/// Sends the alert that ends a handshake at a port without TLS, `handshake_failure`, so that the
/// client reports more than a closed connection.
pub(crate) async fn refuse_tls(socket: TcpStream, timeout: Duration) {
    const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
    refuse(socket, ALERT, timeout).await;
}

async fn refuse(mut socket: TcpStream, answer: &[u8], timeout: Duration) {
    let answering = async {
        socket.write_all(answer).await?;
        socket.shutdown().await?;
        // Unread bytes would reset the connection, and the client might lose the answer.
        let mut unread = [0; 1024];
        let mut left = UNREAD_BYTES_MAX;
        while 0 < left {
            match socket.read(&mut unread).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, io::Error>(())
    };
    if !matches!(time::timeout(timeout, answering).await, Ok(Ok(()))) {
        debug!("the answer to a client of another protocol was not taken");
    }
}

/// At most so many bytes of a client of another protocol are read and dropped.
const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// Logs a failed handshake with etcd's text. A probe that disconnects is not logged.
fn rejected(client: SocketAddr, error: &io::Error) {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            debug!(%client, %error, "rejected connection");
        }
        _ => {
            let remedy = remedy(error);
            info!("remote-addr" = %client, %error, remedy, "rejected connection");
        }
    }
}

/// The remedy for a client with TLS older than 1.2, of whose cipher suites none is offered.
fn remedy(error: &io::Error) -> Option<&'static str> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::PeerIncompatible(why) = inner else {
        return None;
    };
    // A client without suites of ECDHE names no groups for it, which is found first.
    let too_old = matches!(
        why,
        PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon
    );
    too_old.then_some(
        "let the client offer ECDHE with AES-GCM or ChaCha20-Poly1305, or TLS 1.3: suites without \
         forward secrecy, and those with CBC, are not served",
    )
}

/// Serves HTTP/1.1 by hyper alone, on a stream that is no bare socket.
pub(crate) async fn serve_h1<S: Serve, I: AsyncRead + AsyncWrite + Unpin>(
    stream: I,
    (client, name): (SocketAddr, Option<ClientName>),
    port: &Port<S>,
    drain: &Drain,
    mut begun: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> hyper::Result<()> {
    let (clock, heads) = HeadClock::new(port.limits.head_timeout);
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let mut request = request.map(|body| Incoming::new(body, Some(drain)));
        request.extensions_mut().extend(named(name.as_ref()));
        connection::answer(port, &heads, request, client, true)
    });
    let (stream, unsent) = Filtered::new(stream, clock).after(Bytes::new());
    let stream = HeadMender::new(stream, port.limits.head_bytes_max);
    let mut connection = pin!(port.h1.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = &mut begun => connection.as_mut().graceful_shutdown(),
    }
    poll_fn(|cx| match connection.as_mut().poll(cx) {
        // At most a part of a head was read, so no request is being answered.
        Poll::Pending if !unsent.get() && !heads.is_busy() => Poll::Ready(Ok(())),
        ended => ended,
    })
    .await
}

/// The extensions of a request whose client has a name.
pub(crate) fn named(name: Option<&ClientName>) -> Extensions {
    let mut extensions = Extensions::new();
    if let Some(name) = name {
        extensions.insert(name.clone());
    }
    extensions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_older_suites_is_told_of_in_the_log_with_a_remedy() {
        for why in [
            PeerIncompatible::NoCipherSuitesInCommon,
            PeerIncompatible::NoKxGroupsInCommon,
        ] {
            let error = io::Error::other(rustls::Error::PeerIncompatible(why));
            assert!(remedy(&error).is_some_and(|text| text.contains("ECDHE")));
        }
        assert_eq!(remedy(&io::Error::other(rustls::Error::DecryptError)), None);
        assert_eq!(remedy(&io::ErrorKind::TimedOut.into()), None);
    }
}
