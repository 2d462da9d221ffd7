//! An HTTP/2 connection, served by the service or by hyper.

use std::net::SocketAddr;
use std::pin::{Pin, pin};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Port;
use crate::access::Access;
use crate::authority::AuthorityMender;
use crate::filtered::Filtered;
use crate::gathered::{Answering, Gathered};
use crate::guard::Guard;
use crate::http2::Http2Connection;
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::refusal::Answer;
use crate::secure::named;
use crate::serve::Serve;
use crate::tls::ClientName;

/// The bound of streams that a client resets before they are accepted. hyper's default of 20 closes
/// the connection of a client that cancels a burst of requests, as etcd's clients do.
const PENDING_RESETS_MAX: usize = 4096;

pub(super) fn h2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut h2 = http2::Builder::new(TokioExecutor::new());
    let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
    h2.timer(TokioTimer::new())
        .max_concurrent_streams(limits.concurrent_streams_max)
        .max_header_list_size(head_bytes_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        // h2 never forgets one, and all clients of a proxy share a connection. `Guard` bounds those
        // that are not read.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    h2
}

/// The client of a connection.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// It speaks TLS.
    pub(crate) secure: bool,
    /// From its certificate.
    pub(crate) name: Option<ClientName>,
}

impl From<(SocketAddr, bool)> for Peer {
    fn from((address, secure): (SocketAddr, bool)) -> Peer {
        let name = None;
        Peer {
            address,
            secure,
            name,
        }
    }
}

/// Serves HTTP/2.
pub(crate) async fn serve_h2<S: Serve>(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: impl Into<Peer>,
    port: &Port<S>,
    shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> hyper::Result<()> {
    let Peer {
        address,
        secure,
        name,
    } = peer.into();
    let connection = Http2Connection {
        socket: Box::new(socket),
        client: address,
        secure,
        limits: &port.limits,
        shutdown,
    };
    match port.service.serve_http2(connection) {
        Ok(serving) => {
            serving.await;
            Ok(())
        }
        Err(connection) => Box::pin(calls(connection, name, port)).await,
    }
}

/// Serves HTTP/2 with hyper.
async fn calls<S: Serve>(
    connection: Http2Connection<'_>,
    name: Option<ClientName>,
    port: &Port<S>,
) -> hyper::Result<()> {
    let Http2Connection {
        socket,
        client,
        secure,
        mut shutdown,
        ..
    } = connection;
    let answering = Answering::default();
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let (one, open) = (answering.one_more(), answering.open());
        let well_formed = is_well_formed(&request);
        let mut request = request.map(|body| Incoming::new(body, None));
        request.extensions_mut().extend(named(name.as_ref()));
        let access = &port.limits.access;
        let mending = access.cross_origin(request.headers());
        // In a box: most are not refused.
        let answer = match misdirected(access, &request, secure) {
            Some(refused) => Err(Box::new(refused)),
            None => Ok(well_formed.then(|| port.service.call_from(request, client))),
        };
        async move {
            let _one = one;
            let mut response = match answer {
                Ok(Some(answer)) => answer.await.unwrap_or_else(|never| match never {}),
                // hyper resets the stream with it.
                Ok(None) => return Err(h2::Error::from(h2::Reason::PROTOCOL_ERROR)),
                Err(refused) => return Ok(refused.map(Answer::Refused)),
            };
            if let Some(mending) = mending {
                mending.mend(response.headers_mut());
            }
            open.sends();
            Ok(response.map(|body| Answer::Served(body, Some(open))))
        }
    });
    let guarded = Filtered::new(socket, Guard::new(&port.limits, answering.clone()));
    let mended = Filtered::new(guarded, AuthorityMender::new());
    let socket = TokioIo::new(Gathered::new(mended, answering.clone()));
    let mut connection = pin!(port.h2.serve_connection(socket, service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = &mut shutdown => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// The refusal of a request to a host that is not listed. As in etcd, gRPC calls are exempt, since
/// their clients send any host, and so is TLS, which has proven the name.
fn misdirected<B>(
    access: &Access,
    request: &http::Request<B>,
    secure: bool,
) -> Option<Response<Bytes>> {
    if secure || access.takes_all_hosts() {
        return None;
    }
    let is_call = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    let content_type = request.headers().get(CONTENT_TYPE);
    match content_type.is_some_and(is_call) {
        true => None,
        false => access.misdirected_to(request.uri(), request.headers()),
    }
}

/// Finds malformed requests (RFC 9113) that h2 accepts: field values that begin or end with white
/// space (8.2.1), and requests without a `:path` (8.3.1).
fn is_well_formed<B>(request: &http::Request<B>) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let apart = |value: &HeaderValue| {
        let value = value.as_bytes();
        blank(value.first()) || blank(value.last())
    };
    let has_path = request.uri().path_and_query().is_some() || request.method() == Method::CONNECT;
    has_path && !request.headers().values().any(apart)
}
