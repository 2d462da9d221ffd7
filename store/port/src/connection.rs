//! One connection: find out what it speaks, serve it, end it gracefully.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Response};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{self, Instant};
use tracing::{debug, info};

use crate::access::Access;
use crate::authority::AuthorityMender;
use crate::drain::Drain;
use crate::filtered::Filtered;
use crate::guard::Guard;
use crate::head_clock::{BusyBody, HeadClock, Heads};
use crate::head_mender::HeadMender;
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::multiplexed::Multiplexed;
use crate::parking::{self, Parked, Parking};
use crate::plain::{Plain, Plainly};
use crate::refusal::{self, Answer};
use crate::rest::Rest;
use crate::secure;
use crate::serve::Serve;
use crate::tls::ServerTls;

/// How HTTP/2 begins; no HTTP/1.1 method begins so.
const H2_PREFACE: &[u8; 4] = b"PRI ";

/// How TLS begins: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The waits while a client sends its first four bytes one by one. The socket stays readable
/// meanwhile, so there is nothing to be woken by.
const PEEK_WAIT_MIN: Duration = Duration::from_millis(1);
const PEEK_WAIT_MAX: Duration = Duration::from_millis(50);

/// Requests that clients reset before we got to them, at a time. hyper's 20 closes the connection
/// of a client that cancels a burst of requests, as etcd's clients do.
const PENDING_RESETS_MAX: usize = 4096;

/// A port: what it serves and how.
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

fn h1_builder(limits: &Limits) -> http1::Builder {
    let mut h1 = http1::Builder::new();
    h1.timer(TokioTimer::new())
        // Covers the wait between requests; the head itself is under `HeadClock`.
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head_bytes_max)
        .max_headers(limits.headers_max)
        // Scripts grep for `X-Etcd-Index`, as Go writes it.
        .title_case_headers(true);
    h1
}

fn h2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut h2 = http2::Builder::new(TokioExecutor::new());
    let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
    h2.timer(TokioTimer::new())
        .max_concurrent_streams(limits.concurrent_streams_max)
        .max_header_list_size(head_bytes_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        // h2 never forgets one, and all clients of a proxy share a connection. `Guard` bounds those that
        // are not read.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    h2
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
        // In boxes, here and below, whatever only few connections need, or not for long.
        spoken = Box::pin(spoken(&socket, port.limits.first_bytes_timeout)) => spoken,
        // Nothing was asked yet, so nothing is lost.
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
            info!("closed a connection that speaks TLS: this port does not");
            return;
        }
        (Ok(_), _) if !wanted.plain => {
            info!("closed a connection that does not speak TLS: this port does");
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

/// Serves HTTP/2; `secure`: it is TLS.
pub(crate) async fn serve_h2<S: Serve>(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (client, secure): (SocketAddr, bool),
    port: &Port<S>,
    begun: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> hyper::Result<()> {
    let connection = Multiplexed {
        socket: Box::new(socket),
        client,
        secure,
        limits: &port.limits,
        begun,
    };
    match port.service.multiplexed(connection) {
        Ok(serving) => {
            serving.await;
            Ok(())
        }
        Err(connection) => Box::pin(calls(connection, port)).await,
    }
}

/// Serves HTTP/2 by way of hyper.
async fn calls<S: Serve>(connection: Multiplexed<'_>, port: &Port<S>) -> hyper::Result<()> {
    let Multiplexed {
        socket,
        client,
        secure,
        mut begun,
        ..
    } = connection;
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let well_formed = is_well_formed(&request);
        let request = request.map(|body| Incoming::new(body, None));
        let access = &port.limits.access;
        let mending = access.cross_origin(request.headers());
        // In a box: most are not refused.
        let answer = match misdirected(access, &request, secure) {
            Some(refused) => Err(Box::new(refused)),
            None => Ok(well_formed.then(|| port.service.call_from(request, client))),
        };
        async move {
            let mut response = match answer {
                Ok(Some(answer)) => answer.await.unwrap_or_else(|never| match never {}),
                // hyper resets the stream with it.
                Ok(None) => return Err(h2::Error::from(h2::Reason::PROTOCOL_ERROR)),
                Err(refused) => return Ok(refused.map(Answer::Refused)),
            };
            if let Some(mending) = mending {
                mending.mend(response.headers_mut());
            }
            Ok(response.map(Answer::Served))
        }
    });
    let guarded = Filtered::new(socket, Guard::new(&port.limits));
    let socket = TokioIo::new(Filtered::new(guarded, AuthorityMender::new()));
    let mut connection = pin!(port.h2.serve_connection(socket, service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = &mut begun => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// The refusal of a request to a host that is not listed. As in etcd, not of calls, whose clients name any
/// host, and not over TLS, which has proven the name.
fn misdirected<B>(
    access: &Access,
    request: &http::Request<B>,
    secure: bool,
) -> Option<Response<Bytes>> {
    let is_call = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    let content_type = request.headers().get(CONTENT_TYPE);
    match secure || content_type.is_some_and(is_call) {
        true => None,
        false => access.misdirected_to(request.uri(), request.headers()),
    }
}

/// What h2 lets pass of requests that RFC 9113 calls malformed: values with blanks around them (8.2.1) and
/// those without a path (8.3.1).
fn is_well_formed<B>(request: &http::Request<B>) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let apart = |value: &HeaderValue| {
        let value = value.as_bytes();
        blank(value.first()) || blank(value.last())
    };
    let has_path = request.uri().path_and_query().is_some() || request.method() == Method::CONNECT;
    has_path && !request.headers().values().any(apart)
}

/// Requests one after the other, with answers that wait, and rests, between them.
///
/// What only a request or a waiting answer needs is in boxes: most connections rest.
async fn serve_h1<S: Serve>(
    socket: TcpStream,
    port: &Port<S>,
    drain: &Drain,
    mut begun: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> hyper::Result<()> {
    let client = client_of(&socket);
    let mut waiting = Waiting::new(socket, Bytes::new(), None);
    loop {
        let plain = Plain {
            ahead: std::mem::take(&mut waiting.ahead),
            socket: &mut waiting.socket,
            client,
        };
        let answered = match port.service.plain(plain) {
            Ok(answering) => answering.await,
            Err(Plain { ahead, .. }) => Ok(Plainly::Declined { ahead }),
        };
        let Some(declined) = waiting.after(answered) else {
            return Ok(());
        };
        if declined {
            let requests = requests(waiting, client, port, drain, begun.as_mut());
            waiting = match Box::pin(requests).await? {
                Some(waiting) => waiting,
                None => return Ok(()),
            };
        }
        let mut goes_on = match &mut waiting.answer {
            Some((answer, last)) => {
                let stay = parking::stay(&mut waiting.socket, answer, *last, begun.as_mut());
                Box::pin(stay).await
            }
            None => Ok(true),
        };
        waiting.answer = None;
        // Thousands of watchers hear of one event at once, and ask again one by one.
        if matches!(goes_on, Ok(true)) && waiting.ahead.is_empty() {
            let timeout = port.limits.idle_timeout;
            let again = spoken_again(&waiting.socket, timeout, begun.as_mut());
            goes_on = Box::pin(again).await;
        }
        match goes_on {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                debug!(%error, "a client left while it or its answer waited");
                return Ok(());
            }
        }
    }
}

/// Until the client sends something. Returns whether it may be served.
async fn spoken_again(
    socket: &TcpStream,
    timeout: Duration,
    begun: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> io::Result<bool> {
    tokio::select! {
        () = begun => Ok(false),
        readable = time::timeout(timeout, poll_fn(|cx| socket.poll_read_ready(cx))) => match readable {
            Ok(readable) => readable.map(|()| true),
            Err(_) => Ok(false),
        },
    }
}

/// A connection that waits: for its answer, or for its next request.
struct Waiting {
    socket: TcpStream,
    /// What the client has sent already and nobody has looked at.
    ahead: Bytes,
    answer: Option<(Parked, bool)>,
}

impl Waiting {
    /// Returns whether the next request has been declined; `None`: the connection has ended.
    fn after(&mut self, answered: io::Result<Plainly>) -> Option<bool> {
        match answered {
            Ok(Plainly::Over) => return None,
            Ok(Plainly::Declined { ahead }) => {
                self.ahead = ahead;
                return Some(true);
            }
            Ok(Plainly::Answered { ahead }) => self.ahead = ahead,
            Ok(Plainly::Waits {
                parked,
                last,
                ahead,
            }) => {
                self.ahead = ahead;
                self.answer = Some((parked, last));
            }
            Err(error) => {
                debug!(%error, "a connection ended");
                return None;
            }
        }
        Some(false)
    }

    fn new(socket: TcpStream, ahead: Bytes, answer: Option<(Parked, bool)>) -> Waiting {
        Waiting {
            socket,
            ahead,
            answer,
        }
    }
}

/// Serves requests until the connection ends, rests, or has an answer that is parked.
async fn requests<S: Serve>(
    waiting: Waiting,
    client: SocketAddr,
    port: &Port<S>,
    drain: &Drain,
    mut begun: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> hyper::Result<Option<Waiting>> {
    let Waiting { socket, ahead, .. } = waiting;
    let (clock, heads) = HeadClock::new(port.limits.head_timeout);
    let (socket, unsent) = Filtered::new(socket, clock).after(ahead);
    let parking = Parking::default();
    let mut rest = Rest::new(heads.clone());
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let request = request.map(|body| Incoming::new(body, Some(drain)));
        let request = with_parking(request, &parking, &port.limits.access);
        answer(port, &heads, request, client, false)
    });
    let socket = HeadMender::new(socket, port.limits.head_bytes_max);
    let mut connection = port.h1.serve_connection(TokioIo::new(socket), service);
    let mut ending = false;
    let ended = poll_fn(|cx| {
        if !ending && begun.as_mut().poll(cx).is_ready() {
            ending = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            // Answers to earlier requests go first.
            Poll::Pending if unsent.get() => Poll::Pending,
            Poll::Pending if parking.is_taken() => Poll::Ready(None),
            // Half a head at most: nothing is being answered, and nothing will be.
            Poll::Pending if ending && !heads.is_busy() => Poll::Ready(Some(Ok(()))),
            Poll::Pending if ending => Poll::Pending,
            Poll::Pending => rest.poll(cx).map(|()| None),
        }
    })
    .await;
    if let Some(ended) = ended {
        return ended.map(|()| None);
    }
    let parts = connection.into_parts();
    let (socket, pending) = parts.io.into_inner().into_parts();
    // Not the buffer that it lies in, which is large and mostly empty.
    let ahead = [&parts.read_buf[..], &pending].concat().into();
    let answer = parking.take();
    Ok(Some(Waiting::new(socket.into_socket(), ahead, answer)))
}

/// Has a request of HTTP/1.1 answered, or refuses it.
pub(crate) fn answer<S: Serve>(
    port: &Port<S>,
    heads: &Heads,
    request: http::Request<Incoming>,
    client: SocketAddr,
    secure: bool,
) -> impl Future<Output = Result<Response<BusyBody<Answer<S::Body>>>, Infallible>> + use<S> {
    let busy = heads.busy();
    let (headers, access) = (request.headers(), &port.limits.access);
    let mending = access.cross_origin(headers);
    let refused = refusal::refusal_of(request.method(), request.version(), headers);
    let refused = match secure {
        true => refused,
        false => refused.or_else(|| access.misdirected_to(request.uri(), headers)),
    };
    // In a box: most are not refused.
    let answer = match refused {
        Some(refused) => Err(Box::new(refused)),
        None => Ok(port.service.call_from(request, client)),
    };
    async move {
        let response = match answer {
            Ok(answer) => {
                let mut response = answer.await?;
                if let Some(mending) = mending {
                    mending.mend(response.headers_mut());
                }
                response.map(Answer::Served)
            }
            Err(refused) => refused.map(Answer::Refused),
        };
        Ok(response.map(|body| busy.over(body)))
    }
}

/// Who is at the other end; of a client that has left already, nobody knows.
pub(crate) fn client_of(socket: &TcpStream) -> SocketAddr {
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    socket.peer_addr().unwrap_or(nobody)
}

/// Offers the request's handler to park its answer, where that can be done.
fn with_parking(
    request: http::Request<Incoming>,
    parking: &Parking,
    access: &Access,
) -> http::Request<Incoming> {
    let has_body = !hyper::body::Body::is_end_stream(request.body());
    let http_11 = request.version() == http::Version::HTTP_11;
    // A body that nobody reads would be taken for the next request.
    if request.method() != http::Method::GET || !http_11 || has_body {
        return request;
    }
    // A parked head leaves as the handler wrote it.
    if !access.takes_all_origins() && request.headers().contains_key(ORIGIN) {
        return request;
    }
    let (mut parts, body) = request.into_parts();
    parking.note(&parts);
    parts.extensions.insert(parking.clone());
    http::Request::from_parts(parts, body)
}

/// What a connection speaks.
#[derive(Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    Tls,
    /// It was closed without a word, as load balancers' probes do.
    Nothing,
}

/// Looks at the first bytes and leaves them where they are.
async fn spoken(socket: &TcpStream, timeout: Duration) -> io::Result<Spoken> {
    let deadline = Instant::now() + timeout;
    let mut wait = PEEK_WAIT_MIN;
    loop {
        let mut first = [0; H2_PREFACE.len()];
        let read = time::timeout_at(deadline, socket.peek(&mut first)).await??;
        if let Some(spoken) = recognise(&first[..read]) {
            return Ok(spoken);
        }
        time::timeout_at(deadline, time::sleep(wait)).await?;
        wait = (wait * 2).min(PEEK_WAIT_MAX);
    }
}

/// `None`: more bytes are needed. PUT and POST begin as `PRI ` does.
fn recognise(first: &[u8]) -> Option<Spoken> {
    match first {
        [] => Some(Spoken::Nothing),
        [TLS_HANDSHAKE, ..] => Some(Spoken::Tls),
        _ if first == H2_PREFACE => Some(Spoken::Http2),
        _ if H2_PREFACE.starts_with(first) => None,
        _ => Some(Spoken::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let cases: [(&[u8], Option<Spoken>); 8] = [
            (b"", Some(Spoken::Nothing)),
            (b"\x16\x03\x01\x02", Some(Spoken::Tls)),
            (b"PRI ", Some(Spoken::Http2)),
            (b"P", None),
            (b"PR", None),
            (b"PUT ", Some(Spoken::Http1)),
            (b"PO", Some(Spoken::Http1)),
            (b"G", Some(Spoken::Http1)),
        ];
        for (first, expected) in cases {
            assert_eq!(recognise(first), expected, "{first:?}");
        }
    }
}
