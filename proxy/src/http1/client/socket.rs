//! The transport of a connection to a member: a socket, or TLS over one.

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

/// TLS is boxed, so that plain connections stay small.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

/// TLS over a socket. Readiness of the socket does not mean that there is data: it may be a session
/// ticket. Nor does its absence mean that there is none: an answer may have been decrypted already.
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
    /// Whether neither data nor the end has arrived. Data found here is dropped; the caller then
    /// closes the connection.
    pub(crate) fn is_idle(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let mut byte = [0];
        let read = Pin::new(&mut self.0).poll_read(&mut nobody, &mut ReadBuf::new(&mut byte));
        // The runtime's readiness may be outdated, so the socket is peeked as well.
        let peeked = SockRef::from(self.0.get_ref().0).peek(&mut [MaybeUninit::uninit()]);
        let silent = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        read.is_pending() && silent
    }

    /// Hands all bytes to the kernel, encrypted. After an error the other end cannot decrypt all of
    /// them: the last record is incomplete.
    pub(crate) async fn send(&mut self, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = time::timeout(timeout, self.0.write(bytes)).await??;
            bytes = &bytes[sent..];
        }
        time::timeout(timeout, self.0.flush()).await?
    }

    /// Appends the data that has arrived; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        received: &mut BytesMut,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        received.reserve(size);
        let reading = pin!(self.0.read_buf(received));
        match reading.poll(cx) {
            // As in Go, and as with plain HTTP: a killed member sends no close_notify.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(0))
            }
            read => read,
        }
    }

    /// Returns when data has arrived, which is then in `received`.
    pub(crate) async fn answers(&mut self, received: &mut BytesMut, size: usize) {
        if received.is_empty() {
            let _ = poll_fn(|cx| self.poll_read(cx, received, size)).await;
        }
    }
}
