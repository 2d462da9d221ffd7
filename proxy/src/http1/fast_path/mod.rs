//! A path around hyper for most requests, which are forwarded nearly as they came.
//!
//! A request of known length without special fields, as etcd's clients send them, is read from the
//! bare socket (`request`) and takes the same way to its answer as any other (`policy::answer`).
//! The answer is written to the socket (`response`), mostly in the member's own bytes. Other
//! requests are declined, with every byte that was read, and hyper parses them.

mod request;
mod response;

use std::future::{Future, poll_fn, ready};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keelson_port::{FastPath, FastPathAnswer, FastPathOutcome, Parked};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

use self::request::ParsedRequest;
use self::response::Unsent;
use crate::context::Context;
use crate::http1::fuzzing::PassedRequest;
use crate::metrics::RequestRecord;
use crate::policy::answer::{Answer, Incoming, answer};
use crate::policy::watch::WatchRequest;

/// Read at first; most requests are smaller.
const FIRST_BYTES: usize = 4 * 1024;

/// Read of a request whose head is larger than that. hyper takes still longer heads.
const MORE_BYTES: usize = 8 * 1024;

/// For the rest of a small body. hyper takes requests of slower clients.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers the next request, or declines. Each future holds what its case needs and no more: there
/// is one for every request in flight.
pub(crate) fn serve<'a>(context: &'a Arc<Context>, connection: FastPath<'a>) -> FastPathAnswer<'a> {
    let FastPath {
        socket,
        read_ahead,
        client,
    } = connection;
    let begun = match read_ahead.is_empty() {
        true => begin(context, socket, client),
        false => {
            let mut received = BytesMut::with_capacity(FIRST_BYTES.max(read_ahead.len()));
            received.extend_from_slice(&read_ahead);
            read_now(socket, &mut received).map(|_| Begun::Partly(received))
        }
    };
    match begun {
        Err(error) => Box::pin(ready(Err(error))),
        Ok(Begun::Ends(outcome)) => Box::pin(ready(Ok(outcome))),
        Ok(Begun::Whole(request)) => Box::pin(respond(socket, start(context, request))),
        Ok(Begun::Partly(received)) => Box::pin(serve_partly(context, socket, client, received)),
    }
}

/// Answers a request of which not all has arrived.
async fn serve_partly(
    context: &Arc<Context>,
    socket: &mut TcpStream,
    client: SocketAddr,
    received: BytesMut,
) -> io::Result<FastPathOutcome> {
    match complete(context, socket, client, received).await? {
        Begun::Ends(outcome) => Ok(outcome),
        Begun::Partly(received) => Ok(FastPathOutcome::Declined {
            read_ahead: copy(&received),
        }),
        Begun::Whole(request) => respond(socket, start(context, request)).await,
    }
}

/// What has been read.
enum Begun {
    /// Nothing that needs an answer.
    Ends(FastPathOutcome),
    /// Part of a request, or one for hyper.
    Partly(BytesMut),
    Whole(Request),
}

/// A request that can be answered.
struct Request {
    record: RequestRecord,
    incoming: Incoming,
    /// The client's `Connection` field is `close`.
    last: bool,
    read_ahead: Bytes,
}

/// Reads a request. Most arrive whole; their bytes go from the stack into the member's request
/// without another buffer.
fn begin(context: &Context, socket: &mut TcpStream, client: SocketAddr) -> io::Result<Begun> {
    let mut space = [MaybeUninit::uninit(); FIRST_BYTES];
    let mut buffer = ReadBuf::uninit(&mut space);
    let mut no_waker = task::Context::from_waker(Waker::noop());
    match Pin::new(socket).poll_read(&mut no_waker, &mut buffer) {
        Poll::Ready(read) => read?,
        // A spurious wake-up.
        Poll::Pending => {
            let read_ahead = Bytes::new();
            return Ok(Begun::Ends(FastPathOutcome::Answered { read_ahead }));
        }
    }
    let received = buffer.filled();
    if received.is_empty() {
        return Ok(Begun::Ends(FastPathOutcome::Closed));
    }
    match request::parse(received, context, client) {
        Ok(parsed) if parsed.length() <= received.len() => {
            Ok(Begun::Whole(Request::new(context, parsed, received)))
        }
        _ => Ok(Begun::Partly(BytesMut::from(received))),
    }
}

/// Reads the rest of a head, and of a small body.
async fn complete(
    context: &Context,
    socket: &mut TcpStream,
    client: SocketAddr,
    mut received: BytesMut,
) -> io::Result<Begun> {
    if !request::has_head(&received) {
        received.reserve(MORE_BYTES);
        read_now(socket, &mut received)?;
    }
    let Ok(parsed) = request::parse(&received, context, client) else {
        return Ok(Begun::Partly(received));
    };
    if !read_body(context, socket, &mut received, parsed.length()).await? {
        return Ok(Begun::Partly(received));
    }
    Ok(Begun::Whole(Request::new(context, parsed, &received)))
}

impl Request {
    /// `received` holds the whole request.
    fn new(context: &Context, parsed: ParsedRequest, received: &[u8]) -> Request {
        let (whole, read_ahead) = received.split_at(parsed.length());
        let body = &whole[parsed.head_bytes..];
        Request {
            record: RequestRecord::new(context, &parsed.method, parsed.subject),
            last: parsed.last,
            read_ahead: copy(read_ahead),
            incoming: match parsed.watches {
                true => {
                    let watch = WatchRequest::new(parsed.target(), parsed.fields());
                    Incoming::Watch(watch, None)
                }
                false => Incoming::Request(parsed.into_upstream(body)),
            },
        }
    }
}

/// What members receive of a whole request, its length, and whether the connection ends with it;
/// for fuzz targets. `None`: it is declined, or incomplete.
pub(crate) fn pass(
    received: &[u8],
    context: &Context,
    client: SocketAddr,
) -> Option<(PassedRequest, usize, bool)> {
    let parsed = request::parse(received, context, client).ok()?;
    let (length, last) = (parsed.length(), parsed.last);
    let whole = received.get(..length)?;
    let request = Request::new(context, parsed, whole);
    let passed = match request.incoming {
        Incoming::Request(request) => PassedRequest::Forwarded(request.bytes),
        Incoming::Watch(watch, _) => PassedRequest::Watched(watch.first().bytes),
    };
    Some((passed, length, last))
}

/// A copy without the spare room of the buffer.
fn copy(received: &[u8]) -> Bytes {
    match received.is_empty() {
        true => Bytes::new(),
        false => Bytes::copy_from_slice(received),
    }
}

/// Reads what has arrived; `None` is nothing, 0 the end.
fn read_now(socket: &mut TcpStream, received: &mut BytesMut) -> io::Result<Option<usize>> {
    let mut no_waker = task::Context::from_waker(Waker::noop());
    match pin!(socket.read_buf(received)).poll(&mut no_waker) {
        Poll::Ready(read) => read.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// Reads up to `length` bytes of a request. Returns whether they have arrived.
async fn read_body(
    context: &Context,
    socket: &mut TcpStream,
    received: &mut BytesMut,
    length: usize,
) -> io::Result<bool> {
    if length <= received.len() {
        return Ok(true);
    }
    let rest = async {
        while received.len() < length {
            received.reserve(length - received.len());
            if socket.read_buf(received).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    // At shutdown hyper's way decides how long to wait.
    let mut ending = context.drain.clone().begun();
    let waiting = async {
        tokio::select! {
            whole = time::timeout(BODY_TIMEOUT, rest) => whole.unwrap_or(Ok(false)),
            () = &mut ending => Ok(false),
        }
    };
    Box::pin(waiting).await
}

/// An answer in progress. Boxed: a burst of large futures would fragment the heap.
struct InFlight<F> {
    answer: Pin<Box<F>>,
    last: bool,
    read_ahead: Bytes,
}

fn start(
    context: &Arc<Context>,
    request: Request,
) -> InFlight<impl Future<Output = Answer> + Send> {
    InFlight {
        answer: Box::pin(answer(context, request.record, request.incoming)),
        last: request.last,
        read_ahead: request.read_ahead,
    }
}

/// Writes the answer, or has the connection parked until its parts come.
async fn respond(
    socket: &mut TcpStream,
    mut in_flight: InFlight<impl Future<Output = Answer>>,
) -> io::Result<FastPathOutcome> {
    let written = tokio::select! {
        biased;
        answer = in_flight.answer.as_mut() => write(socket, answer, in_flight.last)?,
        // The member gets notice when the exchange with it is dropped.
        () = hung_up(socket), if in_flight.read_ahead.is_empty() => {
            return Ok(FastPathOutcome::Closed);
        }
    };
    let InFlight {
        last, read_ahead, ..
    } = in_flight;
    match written {
        Written::Parked(parked) => {
            return Ok(FastPathOutcome::Parked {
                parked,
                last,
                read_ahead,
            });
        }
        Written::All => {}
        Written::Partly(unsent) => Box::pin(unsent.send(socket)).await?,
    }
    Ok(match last {
        true => FastPathOutcome::Closed,
        false => FastPathOutcome::Answered { read_ahead },
    })
}

/// What became of an answer.
enum Written {
    All,
    Partly(Box<Unsent>),
    Parked(Parked),
}

fn write(socket: &TcpStream, answer: Answer, last: bool) -> io::Result<Written> {
    let unsent = match answer {
        Answer::Watch(watch) => return Ok(Written::Parked(watch.into_parked())),
        Answer::Member(head, body) => response::of_member(socket, &head, body, last)?,
        Answer::Own(own) => response::own(socket, own, last)?,
    };
    Ok(unsent.map_or(Written::All, Written::Partly))
}

/// Returns when the client closes its side, or the socket fails. Bytes of a next request end the
/// look: it then never returns.
async fn hung_up(socket: &TcpStream) {
    let mut peeked = [0];
    let seen = poll_fn(|cx| socket.poll_peek(cx, &mut ReadBuf::new(&mut peeked))).await;
    if let Ok(1..) = seen {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
