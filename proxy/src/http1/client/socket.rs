//! What a connection to a member runs over: a socket, or TLS over one.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use keelson_port::{Protocol, TlsSocket};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

use crate::address::Address;

/// TLS is in a box: plain connections, which are many, must not pay for it.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

/// TLS over a socket. That the socket is readable says nothing here: it may be a ticket for the next
/// handshake, and an answer may have been read from it already.
pub(crate) struct Secure(TlsSocket);

impl Socket {
    pub(crate) async fn open(address: &Address, timeout: Duration) -> io::Result<Socket> {
        let socket = address.connect(timeout).await?;
        let Some(tls) = address.tls() else {
            return Ok(Socket::Plain(socket));
        };
        let shaking = tls.connect(address.host(), Protocol::Http1, socket);
        let stream = time::timeout(timeout, Box::pin(shaking)).await??;
        Ok(Socket::Tls(Box::new(Secure(stream))))
    }
}

impl Secure {
    /// Whether nothing has come, not even the end. What is found here is lost: the connection is not
    /// used then.
    pub(crate) fn is_idle(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let mut byte = [0];
        let read = Pin::new(&mut self.0).poll_read(&mut nobody, &mut ReadBuf::new(&mut byte));
        // What the runtime has heard may be old, so the kernel is asked as well.
        let peeked = SockRef::from(self.0.get_ref().0).peek(&mut [MaybeUninit::uninit()]);
        let silent = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        read.is_pending() && silent
    }

    /// Hands all bytes to the kernel, encrypted. After an error the other end cannot have all of
    /// them: the last record is not whole.
    pub(crate) async fn send(&mut self, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = time::timeout(timeout, self.0.write(bytes)).await??;
            bytes = &bytes[sent..];
        }
        time::timeout(timeout, self.0.flush()).await?
    }

    /// Appends what has come; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        received: &mut BytesMut,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        received.reserve(size);
        let reading = pin!(self.0.read_buf(received));
        match reading.poll(cx) {
            // As Go does, and plain HTTP: members that are killed say no farewell.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(0))
            }
            read => read,
        }
    }

    /// Returns when something has come, which is then in `received`.
    pub(crate) async fn answers(&mut self, received: &mut BytesMut, size: usize) {
        if received.is_empty() {
            let _ = poll_fn(|cx| self.poll_read(cx, received, size)).await;
        }
    }
}
