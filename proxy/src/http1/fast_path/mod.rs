//! Requests that are passed on nearly as they came, without HTTP's machinery on the client's side.
//!
//! A request of a known length that wants nothing special, which is what all of etcd's clients send
//! nearly always, is read from the bare socket (`ask`), sent to a member, and its answer is written
//! back (`answer`), most often in the member's own bytes. It is tried on other members by the same
//! rules and the same code as any other (`http1`), and waits of the v2 API are parked as always. What
//! is not so plain is declined, with every byte that was read, and goes through hyper.

mod answer;
mod ask;

use std::future::{Future, poll_fn, ready};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keelson_port::{FastPath, FastPathAnswer, FastPathOutcome, Parkable};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

use crate::answers::Refusal;
use crate::context::Context;
use crate::http1::exchange::Reply;
use crate::http1::request::UpstreamRequest;
use crate::metrics::RequestRecord;
use crate::policy::attempts::Attempts;
use crate::policy::forward;
use crate::policy::watch::{self, WatchRequest};
use answer::Unsent;
use ask::{Ask, Seen};

/// Read at first; more than nearly all requests have.
const FIRST_BYTES: usize = 4 * 1024;

/// Read of a request whose head is not complete with that. A longer head is hyper's.
const MORE_BYTES: usize = 8 * 1024;

/// For the rest of a small body. A client that takes longer is hyper's.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers the next request, or declines. What is said without waiting is said here, and the future is
/// of the one kind that the request needs: there is one for every request in flight.
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
        Ok(Begun::Ends(ends)) => Box::pin(ready(Ok(ends))),
        Ok(Begun::WatchRequest(wait, read_ahead)) => {
            Box::pin(wait_for_event(context, socket, wait, read_ahead))
        }
        Ok(Begun::Request(request, read_ahead)) => {
            Box::pin(pass_on(context, socket, request, read_ahead))
        }
        Ok(Begun::Partly(received)) => Box::pin(serve_partly(context, socket, client, received)),
    }
}

/// The same for a request whose rest is still to come.
async fn serve_partly(
    context: &Arc<Context>,
    socket: &mut TcpStream,
    client: SocketAddr,
    received: BytesMut,
) -> io::Result<FastPathOutcome> {
    match complete(context, socket, client, received).await? {
        Begun::Ends(ends) => Ok(ends),
        Begun::Partly(received) => Ok(FastPathOutcome::Declined {
            read_ahead: small(&received),
        }),
        Begun::WatchRequest(wait, read_ahead) => {
            wait_for_event(context, socket, wait, read_ahead).await
        }
        Begun::Request(request, read_ahead) => pass_on(context, socket, request, read_ahead).await,
    }
}

/// What a request has been found to be, and what has come after it.
enum Begun {
    /// Nothing that has to be answered.
    Ends(FastPathOutcome),
    /// Not all of it has come, or it is none of ours.
    Partly(BytesMut),
    WatchRequest(Waits, Bytes),
    Request(Request, Bytes),
}

/// A request that has come whole, as nearly all do, is never kept: it goes from the stack into what is
/// sent.
fn begin(context: &Context, socket: &mut TcpStream, client: SocketAddr) -> io::Result<Begun> {
    let mut space = [MaybeUninit::uninit(); FIRST_BYTES];
    let mut buffer = ReadBuf::uninit(&mut space);
    let mut nobody = task::Context::from_waker(Waker::noop());
    match Pin::new(socket).poll_read(&mut nobody, &mut buffer) {
        Poll::Ready(read) => read?,
        // It was woken for nothing.
        Poll::Pending => {
            let read_ahead = Bytes::new();
            return Ok(Begun::Ends(FastPathOutcome::Answered { read_ahead }));
        }
    }
    let received = buffer.filled();
    if received.is_empty() {
        return Ok(Begun::Ends(FastPathOutcome::Closed));
    }
    match ask::see(received, context, client) {
        Seen::Plain(ask) if ask.length() <= received.len() => {
            let (whole, read_ahead) = received.split_at(ask.length());
            Ok(found(context, ask, whole, read_ahead))
        }
        _ => Ok(Begun::Partly(BytesMut::from(received))),
    }
}

/// The rest of the head, and of a small body.
async fn complete(
    context: &Context,
    socket: &mut TcpStream,
    client: SocketAddr,
    mut received: BytesMut,
) -> io::Result<Begun> {
    if !ask::has_head(&received) {
        received.reserve(MORE_BYTES);
        read_now(socket, &mut received)?;
    }
    let ask = match ask::see(&received, context, client) {
        Seen::Plain(ask) => ask,
        Seen::Special => return Ok(Begun::Partly(received)),
    };
    if !body_is_here(context, socket, &mut received, &ask).await? {
        return Ok(Begun::Partly(received));
    }
    let (whole, read_ahead) = received.split_at(ask.length());
    Ok(found(context, ask, whole, read_ahead))
}

fn found(context: &Context, ask: Ask, whole: &[u8], read_ahead: &[u8]) -> Begun {
    let read_ahead = small(read_ahead);
    match ask.waits {
        true => Begun::WatchRequest(Waits::new(context, &ask), read_ahead),
        false => {
            let body = &whole[ask.head_bytes..];
            Begun::Request(Request::new(context, ask, body), read_ahead)
        }
    }
}

/// What is there, without the buffer that it lies in.
fn small(received: &[u8]) -> Bytes {
    match received.is_empty() {
        true => Bytes::new(),
        false => Bytes::copy_from_slice(received),
    }
}

/// Reads what has arrived; `None` is nothing, 0 the end.
fn read_now(socket: &mut TcpStream, received: &mut BytesMut) -> io::Result<Option<usize>> {
    let mut nobody = task::Context::from_waker(Waker::noop());
    match pin!(socket.read_buf(received)).poll(&mut nobody) {
        Poll::Ready(read) => read.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// Reads the rest of the body. Returns whether all of it has come.
async fn body_is_here(
    context: &Context,
    socket: &mut TcpStream,
    received: &mut BytesMut,
    ask: &Ask,
) -> io::Result<bool> {
    if ask.length() <= received.len() {
        return Ok(true);
    }
    let rest = async {
        while received.len() < ask.length() {
            received.reserve(ask.length() - received.len());
            if socket.read_buf(received).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    // At the end of the proxy hyper's way decides how long to wait.
    let mut ending = context.drain.clone().begun();
    let waiting = async {
        tokio::select! {
            whole = time::timeout(BODY_TIMEOUT, rest) => whole.unwrap_or(Ok(false)),
            () = &mut ending => Ok(false),
        }
    };
    Box::pin(waiting).await
}

/// A request that can be sent.
struct Request {
    record: RequestRecord,
    outgoing: UpstreamRequest,
    /// The client wants the connection closed after the answer.
    last: bool,
}

impl Request {
    fn new(context: &Context, ask: Ask, body: &[u8]) -> Request {
        Request {
            record: RequestRecord::new(context, &ask.method, ask.subject),
            last: ask.last,
            outgoing: ask.into_outgoing(body),
        }
    }
}

/// Has a member answer, and writes the answer.
async fn pass_on(
    context: &Context,
    socket: &mut TcpStream,
    request: Request,
    read_ahead: Bytes,
) -> io::Result<FastPathOutcome> {
    let Request {
        record,
        mut outgoing,
        last,
    } = request;
    let mut attempts = Attempts::of_request(context, outgoing.read);
    let replied = {
        // In a box: a burst of large futures leaves holes in the heap.
        let mut forwarding = Box::pin(forward::forward_in(&mut attempts, context, &mut outgoing));
        match unless_gone(socket, forwarding.as_mut(), !read_ahead.is_empty()).await {
            Some(replied) => replied,
            None => return Ok(FastPathOutcome::Closed),
        }
    };
    let written = write_reply(context, socket, &outgoing, record, replied, last)?;
    go_on(socket, written, last, read_ahead).await
}

fn write_reply(
    context: &Context,
    socket: &mut TcpStream,
    outgoing: &UpstreamRequest,
    record: RequestRecord,
    replied: Result<Reply, Refusal>,
    last: bool,
) -> io::Result<Option<Box<Unsent>>> {
    let begun = replied.and_then(|reply| {
        let (head, body) = reply.into_parts();
        let body = body.whole().map_err(|_| forward::refusal(outgoing))?;
        Ok((head, body))
    });
    match begun {
        Ok((head, body)) => {
            record.handled(context, head.status);
            answer::of_member(socket, &head, body, last)
        }
        Err(refusal) => answer::own(socket, record.refused(context, refusal), last),
    }
}

/// Sends what is left of an answer; then the connection is free again, or ends.
async fn go_on(
    socket: &TcpStream,
    unsent: Option<Box<Unsent>>,
    last: bool,
    read_ahead: Bytes,
) -> io::Result<FastPathOutcome> {
    if let Some(unsent) = unsent {
        Box::pin(unsent.send(socket)).await?;
    }
    Ok(match last {
        true => FastPathOutcome::Closed,
        false => FastPathOutcome::Answered { read_ahead },
    })
}

/// A wait of the v2 API.
struct Waits {
    record: RequestRecord,
    wait: WatchRequest,
    /// The client wants the connection closed after the answer.
    last: bool,
}

impl Waits {
    fn new(context: &Context, ask: &Ask) -> Waits {
        Waits {
            record: RequestRecord::new(context, &ask.method, ask.subject),
            wait: WatchRequest::new(ask.path(), ask.fields()),
            last: ask.last,
        }
    }
}

/// A wait of the v2 API: answered at once, or parked.
async fn wait_for_event(
    context: &Arc<Context>,
    socket: &mut TcpStream,
    waits: Waits,
    read_ahead: Bytes,
) -> io::Result<FastPathOutcome> {
    let Waits { record, wait, last } = waits;
    let waited = {
        let forwarding =
            keelson_port::parkable(|parking| watch::forward(context, wait, Some(parking), None));
        unless_gone(socket, pin!(forwarding), !read_ahead.is_empty()).await
    };
    match waited {
        None => Ok(FastPathOutcome::Closed),
        Some(Parkable::Parked(parked)) => Ok(FastPathOutcome::Parked {
            parked,
            last,
            read_ahead,
        }),
        Some(Parkable::Done(answer)) => {
            let unsent = answer::own(socket, record.finish(context, answer), last)?;
            go_on(socket, unsent, last, read_ahead).await
        }
    }
}

/// What comes of it, unless the client hangs up before: then nobody wants it, and the member hears of
/// it when this is dropped. A client that talks on is not looked at again.
async fn unless_gone<T>(
    socket: &TcpStream,
    mut work: Pin<&mut impl Future<Output = T>>,
    mut talks_on: bool,
) -> Option<T> {
    let mut peeked = [0];
    loop {
        tokio::select! {
            biased;
            done = work.as_mut() => return Some(done),
            seen = poll_fn(|cx| socket.poll_peek(cx, &mut ReadBuf::new(&mut peeked))), if !talks_on => match seen {
                Ok(0) | Err(_) => return None,
                Ok(_) => talks_on = true,
            },
        }
    }
}
