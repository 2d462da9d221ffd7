//! An HTTP/1.1 connection: its requests, one after the other, and the idle time between them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time;
use tracing::debug;

use super::{Port, client_of};
use crate::drain::Drain;
use crate::fast_path::{FastPath, FastPathOutcome};
use crate::filtered::Filtered;
use crate::head_clock::{BusyBody, HeadClock, Heads};
use crate::head_mender::HeadMender;
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::parking::{self, Parkable, Parked, ParkingSlot};
use crate::refusal::{self, Answer};
use crate::rest::Rest;
use crate::serve::Serve;

pub(super) fn h1_builder(limits: &Limits) -> http1::Builder {
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

/// Serves requests one after the other, with parked answers and idle time between them.
///
/// State that only a request or a parked answer needs is boxed: most connections are idle.
pub(super) async fn serve_h1<S: Serve>(
    socket: TcpStream,
    port: &Port<S>,
    drain: &Drain,
    mut begun: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> hyper::Result<()> {
    let client = client_of(&socket);
    let mut waiting = Waiting::new(socket, Bytes::new(), None);
    loop {
        let plain = FastPath {
            read_ahead: std::mem::take(&mut waiting.read_ahead),
            socket: &mut waiting.socket,
            client,
        };
        let answered = match port.service.fast_path(plain) {
            Ok(answering) => answering.await,
            Err(FastPath { read_ahead, .. }) => Ok(FastPathOutcome::Declined { read_ahead }),
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
        // One event answers thousands of watchers at once, and their next requests come one by one.
        if matches!(goes_on, Ok(true)) && waiting.read_ahead.is_empty() {
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
    let readable = poll_fn(|cx| socket.poll_read_ready(cx));
    tokio::select! {
        () = begun => Ok(false),
        readable = time::timeout(timeout, readable) => match readable {
            Ok(readable) => readable.map(|()| true),
            Err(_) => Ok(false),
        },
    }
}

/// A connection that waits: for its answer, or for its next request.
struct Waiting {
    socket: TcpStream,
    /// What the client has sent already and is not parsed yet.
    read_ahead: Bytes,
    answer: Option<(Parked, bool)>,
}

impl Waiting {
    /// Returns whether the next request has been declined; `None`: the connection has ended.
    fn after(&mut self, answered: io::Result<FastPathOutcome>) -> Option<bool> {
        match answered {
            Ok(FastPathOutcome::Closed) => return None,
            Ok(FastPathOutcome::Declined { read_ahead }) => {
                self.read_ahead = read_ahead;
                return Some(true);
            }
            Ok(FastPathOutcome::Answered { read_ahead }) => self.read_ahead = read_ahead,
            Ok(FastPathOutcome::Parked {
                parked,
                last,
                read_ahead,
            }) => {
                self.read_ahead = read_ahead;
                self.answer = Some((parked, last));
            }
            Err(error) => {
                debug!(%error, "a connection ended");
                return None;
            }
        }
        Some(false)
    }

    fn new(socket: TcpStream, read_ahead: Bytes, answer: Option<(Parked, bool)>) -> Waiting {
        Waiting {
            socket,
            read_ahead,
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
    let Waiting {
        socket, read_ahead, ..
    } = waiting;
    let (clock, heads) = HeadClock::new(port.limits.head_timeout);
    let (socket, unsent) = Filtered::new(socket, clock).after(read_ahead);
    let parking = ParkingSlot::default();
    let mut rest = Rest::new(heads.clone());
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let request = request.map(|body| Incoming::new(body, Some(drain)));
        let last = closes(request.headers());
        let answer = answer(port, &heads, parkable(request), client, false);
        let parking = &parking;
        async move {
            let mut response = answer.await?;
            match Parked::of(&mut response) {
                Some(parked) => {
                    parking.put(parked, last);
                    // hyper must not answer: the connection leaves it at this pause.
                    std::future::pending().await
                }
                None => Ok::<_, Infallible>(response),
            }
        }
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
            // At most a part of a head was read, so no request is being answered.
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
    // Copied: the buffer around it is large and mostly empty.
    let read_ahead = [&parts.read_buf[..], &pending].concat().into();
    let answer = parking.take();
    Ok(Some(Waiting::new(socket.into_socket(), read_ahead, answer)))
}

/// Answers an HTTP/1.1 request, or refuses it.
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
                response.map(|body| Answer::Served(body, None))
            }
            Err(refused) => refused.map(Answer::Refused),
        };
        Ok(response.map(|body| busy.over(body)))
    }
}

/// Marks a request whose answer may be parked.
fn parkable(mut request: http::Request<Incoming>) -> http::Request<Incoming> {
    let has_body = !hyper::body::Body::is_end_stream(request.body());
    let http_11 = request.version() == http::Version::HTTP_11;
    // A body that is not read would be taken for the next request.
    if request.method() == http::Method::GET && http_11 && !has_body {
        request.extensions_mut().insert(Parkable);
    }
    request
}

/// Whether a request has `Connection: close`.
fn closes(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(CONNECTION).iter();
    named.any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}
