//! Requests that are passed on nearly as they came, without HTTP's machinery on the client's side.
//!
//! A request of a known length that wants nothing special, which is what all of etcd's clients send
//! nearly always, is read from the bare socket (`ask`), sent to a member, and its answer is written
//! back (`answer`), most often in the member's own bytes. It is tried on other members by the same
//! rules and the same code as any other (`http1`), and waits of the v2 API are parked as always. What
//! is not so plain is declined, with every byte that was read, and goes through hyper.

mod answer;
mod ask;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keelson_port::{Parkable, Plain, Plainly};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

use crate::answers::Refusal;
use crate::exchange::Reply;
use crate::http1;
use crate::proxy::{Asked, Proxy};
use crate::request::Outgoing;
use crate::turns::Turns;
use crate::wait::{self, Wait};
use ask::{Ask, Seen};

/// Read at first; more than nearly all requests have. Small, since a thousand clients that come at
/// once leave holes of that size in the heap.
const FIRST_BYTES: usize = 1024;

/// Read of a request whose head is not complete with that. A longer head is hyper's.
const MORE_BYTES: usize = 8 * 1024;

/// For the rest of a small body. A client that takes longer is hyper's.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers the next request, or declines.
pub(crate) async fn serve(proxy: &Arc<Proxy>, connection: Plain<'_>) -> io::Result<Plainly> {
    let Plain {
        socket,
        ahead,
        client,
    } = connection;
    let mut received = BytesMut::with_capacity(FIRST_BYTES.max(ahead.len()));
    received.extend_from_slice(&ahead);
    drop(ahead);
    match read_now(socket, &mut received)? {
        // It was woken for nothing, and what is ahead is not a whole request.
        None if received.is_empty() => return answered(received),
        Some(0) if received.is_empty() => return Ok(Plainly::Over),
        _ => {}
    }
    if received.len() == received.capacity() && !ask::has_head(&received) {
        received.reserve(MORE_BYTES);
        read_now(socket, &mut received)?;
    }
    let ask = match ask::see(&received, proxy, client) {
        Seen::Plain(ask) => ask,
        Seen::Special => return declined(received),
    };
    if !body_is_here(socket, &mut received, &ask).await? {
        return declined(received);
    }
    let body = received.split_to(ask.length()).split_off(ask.head_bytes);
    match ask.waits {
        true => wait_for_event(proxy, socket, ask, received).await,
        false => pass_on(proxy, socket, ask, &body, received).await,
    }
}

fn answered(received: BytesMut) -> io::Result<Plainly> {
    Ok(Plainly::Answered {
        ahead: small(received),
    })
}

fn declined(received: BytesMut) -> io::Result<Plainly> {
    Ok(Plainly::Declined {
        ahead: small(received),
    })
}

/// What is there, without the buffer that it lies in.
fn small(received: BytesMut) -> Bytes {
    match received.is_empty() {
        true => Bytes::new(),
        false => Bytes::copy_from_slice(&received),
    }
}

/// Reads what has arrived; `None` is nothing, 0 the end.
fn read_now(socket: &mut TcpStream, received: &mut BytesMut) -> io::Result<Option<usize>> {
    use std::task::{Context, Poll, Waker};
    let mut nobody = Context::from_waker(Waker::noop());
    match pin!(socket.read_buf(received)).poll(&mut nobody) {
        Poll::Ready(read) => read.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// Reads the rest of the body. Returns whether all of it has come.
async fn body_is_here(
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
    Box::pin(time::timeout(BODY_TIMEOUT, rest))
        .await
        .unwrap_or(Ok(false))
}

/// Has a member answer, and writes the answer.
async fn pass_on(
    proxy: &Proxy,
    socket: &mut TcpStream,
    ask: Ask,
    body: &[u8],
    ahead: BytesMut,
) -> io::Result<Plainly> {
    let asked = Asked::new(proxy, &ask.method, ask.keys);
    let last = ask.last;
    let mut outgoing = ask.into_outgoing(body);
    let mut turns = Turns::of_request(proxy, outgoing.read);
    let replied = {
        // In a box: a burst of large futures leaves holes in the heap.
        let mut forwarding = Box::pin(http1::forward_in(&mut turns, proxy, &mut outgoing));
        match unless_gone(socket, forwarding.as_mut(), !ahead.is_empty()).await {
            Some(replied) => replied,
            None => return Ok(Plainly::Over),
        }
    };
    write_reply(proxy, socket, &outgoing, asked, replied, last).await?;
    match last {
        true => Ok(Plainly::Over),
        false => answered(ahead),
    }
}

async fn write_reply(
    proxy: &Proxy,
    socket: &mut TcpStream,
    outgoing: &Outgoing,
    asked: Asked,
    replied: Result<Reply, Refusal>,
    last: bool,
) -> io::Result<()> {
    let begun = replied.and_then(|reply| {
        let (head, body) = reply.into_parts();
        let body = body.whole().map_err(|_| http1::refusal(outgoing))?;
        Ok((head, body))
    });
    match begun {
        Ok((head, body)) => {
            asked.handled(proxy, head.status);
            answer::of_member(socket, &head, body, last).await
        }
        Err(refusal) => {
            let response = asked.refused(proxy, refusal);
            answer::own(socket, response, last).await
        }
    }
}

/// A wait of the v2 API: answered at once, or parked.
async fn wait_for_event(
    proxy: &Arc<Proxy>,
    socket: &mut TcpStream,
    ask: Ask,
    ahead: BytesMut,
) -> io::Result<Plainly> {
    let asked = Asked::new(proxy, &ask.method, ask.keys);
    let last = ask.last;
    let wait = Wait::new(ask.path(), ask.fields());
    drop(ask);
    let forwarding = keelson_port::parkable(|parking| wait::forward(proxy, wait, Some(parking)));
    let forwarding = pin!(forwarding);
    match unless_gone(socket, forwarding, !ahead.is_empty()).await {
        None => Ok(Plainly::Over),
        Some(Parkable::Parked(parked)) => Ok(Plainly::Waits {
            parked,
            last,
            ahead: small(ahead),
        }),
        Some(Parkable::Done(answer)) => {
            let response = asked.answered(proxy, answer);
            answer::own(socket, response, last).await?;
            match last {
                true => Ok(Plainly::Over),
                false => answered(ahead),
            }
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
