//! A connection to a member.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::time::{self, Instant};

use crate::address::Address;
use crate::http1::client::head::{self, Head};
use crate::http1::client::socket::Socket;
use crate::sockets::Place;

/// Read at first: all of most answers, and no more than a wait's head needs while it is looked at.
const FIRST_BYTES: usize = 2 * 1024;

/// Read at a time of what is longer.
const MORE_BYTES: usize = 16 * 1024;

/// A socket and what was read from it ahead. Idle or waiting, it has no buffer.
pub(crate) struct Connection {
    socket: Socket,
    pub(crate) received: BytesMut,
    /// When it was last used.
    pub(crate) since: Instant,
    /// Of the sockets that the process may have to members; probes need none.
    place: Option<Place>,
}

impl Connection {
    pub(crate) async fn open(address: &Address, timeout: Duration) -> io::Result<Connection> {
        Ok(Connection {
            socket: Socket::open(address, timeout).await?,
            received: BytesMut::new(),
            since: Instant::now(),
            place: None,
        })
    }

    /// The same connection, which has its place until it is closed.
    pub(crate) fn with_place(self, place: Place) -> Connection {
        Connection {
            place: Some(place),
            ..self
        }
    }

    /// Whether it may be kept for a later request, and no request waits for its place.
    pub(crate) fn may_rest(&self) -> bool {
        !self.place.as_ref().is_some_and(Place::is_wanted)
    }

    /// Whether the other end has neither closed it nor said anything unasked, for all that the
    /// runtime has heard. Good enough for reads, which are sent again when it was not so.
    pub(crate) fn seems_idle(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        match &self.socket {
            Socket::Plain(socket) if socket.poll_read_ready(&mut nobody).is_pending() => true,
            _ => self.is_idle(),
        }
    }

    /// The same, asked from the kernel: what the runtime has heard may be old, and a write that
    /// goes into a dead connection is a write whose outcome nobody knows.
    pub(crate) fn is_idle(&mut self) -> bool {
        let socket = match &mut self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(secure) => return secure.is_idle(),
        };
        let peeked = SockRef::from(&*socket).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Hands all bytes to the kernel. After an error it has not got all of them.
    pub(crate) async fn send(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<()> {
        // Nearly always the kernel takes all at once; the rest would make room for itself in every
        // request.
        let sent = match &self.socket {
            Socket::Plain(socket) => sent(socket.try_write(bytes))?,
            Socket::Tls(_) => 0,
        };
        match sent == bytes.len() {
            true => Ok(()),
            false => Box::pin(self.send_rest(&bytes[sent..], timeout)).await,
        }
    }

    async fn send_rest(&mut self, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
        let socket = match &mut self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(secure) => return secure.send(bytes, timeout).await,
        };
        while !bytes.is_empty() {
            match sent(socket.try_write(bytes))? {
                0 => time::timeout(timeout, socket.writable()).await??,
                sent => bytes = &bytes[sent..],
            }
        }
        Ok(())
    }

    /// Returns when the other end says something, or nothing any more.
    pub(crate) async fn answers(&mut self) {
        match &mut self.socket {
            // An error is found by whoever reads.
            Socket::Plain(socket) => drop(socket.readable().await),
            Socket::Tls(secure) => secure.answers(&mut self.received, FIRST_BYTES).await,
        }
    }

    /// The head of the answer.
    pub(crate) async fn head(&mut self, method: &Method) -> io::Result<Head> {
        loop {
            match head::parse(&mut self.received, method)? {
                // 100 Continue and its like announce another.
                Some(head) if head.status.is_informational() => {}
                Some(head) => return Ok(head),
                None => self.fill(FIRST_BYTES).await?,
            }
        }
    }

    /// More of a body. The end is an error here.
    pub(crate) async fn more(&mut self) -> io::Result<()> {
        self.fill(MORE_BYTES).await
    }

    async fn fill(&mut self, size: usize) -> io::Result<()> {
        match std::future::poll_fn(|cx| self.poll_fill(cx, size)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads more of a body; 0 is the end.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_fill(cx, MORE_BYTES)
    }

    /// Waits without a buffer, then reads about as much as `size`.
    fn poll_fill(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        let socket = match &mut self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(secure) => {
                let read = secure.poll_read(cx, &mut self.received, size);
                if read.is_pending() {
                    self.let_buffer_go();
                }
                return read;
            }
        };
        loop {
            if socket.poll_read_ready(cx)?.is_pending() {
                let_go(&mut self.received);
                return Poll::Pending;
            }
            // What is left of a buffer is used up, unless it is next to nothing.
            if self.received.capacity() - self.received.len() < size / 4 {
                self.received.reserve(size);
            }
            // Not `try_read_buf`: only this one knows that a read which leaves room has read all
            // there is, and saves the next one asking in vain.
            match pin!(socket.read_buf(&mut self.received)).poll(cx) {
                Poll::Pending => let_go(&mut self.received),
                read => return read,
            }
        }
    }

    /// An empty buffer is worth nothing to a connection that waits.
    pub(crate) fn let_buffer_go(&mut self) {
        let_go(&mut self.received);
    }
}

/// How much the kernel took.
fn sent(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

fn let_go(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
