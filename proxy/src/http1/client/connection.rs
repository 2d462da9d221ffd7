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
use crate::sockets::SocketPermit;

/// Read at first: most answers whole, and little for the head of a watch.
const FIRST_BYTES: usize = 2 * 1024;

/// Read at a time of longer answers.
const MORE_BYTES: usize = 16 * 1024;

/// A socket and the bytes that were read ahead. While idle or waiting it has no buffer.
pub(crate) struct Connection {
    socket: Socket,
    pub(crate) received: BytesMut,
    /// The time of the last use.
    pub(crate) since: Instant,
    /// Counts against the sockets of the process to members. Probes need none.
    permit: Option<SocketPermit>,
}

impl Connection {
    pub(crate) async fn open(address: &Address, timeout: Duration) -> io::Result<Connection> {
        Ok(Connection {
            socket: Socket::open(address, timeout).await?,
            received: BytesMut::new(),
            since: Instant::now(),
            permit: None,
        })
    }

    /// The same connection, which holds the permit until it is closed.
    pub(crate) fn with_permit(self, permit: SocketPermit) -> Connection {
        Connection {
            permit: Some(permit),
            ..self
        }
    }

    /// Whether it may stay in the pool: no request waits for its permit.
    pub(crate) fn may_idle(&self) -> bool {
        !self.permit.as_ref().is_some_and(SocketPermit::is_awaited)
    }

    /// Whether the member has neither closed it nor sent unexpected bytes, as far as the runtime
    /// has been notified. That suffices for reads, which are repeated if the connection turns out
    /// to be closed.
    pub(crate) fn seems_idle(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        match &self.socket {
            Socket::Plain(socket) if socket.poll_read_ready(&mut nobody).is_pending() => true,
            _ => self.is_idle(),
        }
    }

    /// The same by a system call: the runtime's readiness may be outdated, and the outcome of a
    /// write that is sent into a closed connection is unknown.
    pub(crate) fn is_idle(&mut self) -> bool {
        let socket = match &mut self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(secure) => return secure.is_idle(),
        };
        let peeked = SockRef::from(&*socket).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Hands all bytes to the kernel. After an error it did not take all of them.
    pub(crate) async fn send(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<()> {
        // Nearly always the kernel takes all at once. The rest is boxed: it would enlarge the
        // future of every request.
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

    /// Returns when the member has sent something, or closed the connection.
    pub(crate) async fn answers(&mut self) {
        match &mut self.socket {
            // The next read returns the error.
            Socket::Plain(socket) => drop(socket.readable().await),
            Socket::Tls(secure) => secure.answers(&mut self.received, FIRST_BYTES).await,
        }
    }

    /// The head of the answer.
    pub(crate) async fn head(&mut self, method: &Method) -> io::Result<Head> {
        loop {
            match head::parse(&mut self.received, method)? {
                // A final answer follows 100 Continue and the like.
                Some(head) if head.status.is_informational() => {}
                Some(head) => return Ok(head),
                None => self.fill(FIRST_BYTES).await?,
            }
        }
    }

    /// Reads more of a body. The end is an error.
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
                    self.free_buffer();
                }
                return read;
            }
        };
        loop {
            if socket.poll_read_ready(cx)?.is_pending() {
                free_if_empty(&mut self.received);
                return Poll::Pending;
            }
            // The rest of a buffer is used up, unless it is very small.
            if self.received.capacity() - self.received.len() < size / 4 {
                self.received.reserve(size);
            }
            // Not `try_read_buf`: only `read_buf` clears the readiness after a short read, which
            // saves a system call that would return nothing.
            match pin!(socket.read_buf(&mut self.received)).poll(cx) {
                Poll::Pending => free_if_empty(&mut self.received),
                read => return read,
            }
        }
    }

    /// Frees an empty buffer, which a connection that waits does not need.
    pub(crate) fn free_buffer(&mut self) {
        free_if_empty(&mut self.received);
    }
}

/// The number of bytes that the kernel took.
fn sent(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

fn free_if_empty(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
