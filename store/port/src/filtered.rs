//! A socket whose reading side is looked at on the way; writing goes straight through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is done with what a client sends.
pub(crate) trait ReadFilter: Unpin {
    /// Reads from the socket, as `AsyncRead` would.
    fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        socket: Pin<&mut I>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;

    /// Bytes of the client have come by another way.
    fn arrived(&mut self) {}
}

/// The socket, or TLS over one, and its filter.
pub(crate) struct Filtered<F, I = TcpStream> {
    socket: I,
    filter: F,
    /// What had been read from the socket before it came here.
    ahead: Bytes,
    unsent: Unsent,
}

/// Whether something waits to be sent that the socket did not take.
#[derive(Clone, Default)]
pub(crate) struct Unsent(Arc<Waits>);

#[derive(Default)]
struct Waits {
    write: AtomicBool,
    /// TLS takes more than it sends.
    flush: AtomicBool,
}

impl Unsent {
    pub(crate) fn get(&self) -> bool {
        self.0.write.load(Ordering::Relaxed) || self.0.flush.load(Ordering::Relaxed)
    }

    fn note(&self, asked: usize, written: &Poll<io::Result<usize>>) {
        let all = matches!(written, Poll::Ready(Ok(taken)) if *taken == asked);
        self.0.write.store(!all, Ordering::Relaxed);
    }
}

impl<F, I> Filtered<F, I> {
    pub(crate) fn new(socket: I, filter: F) -> Filtered<F, I> {
        Filtered {
            socket,
            filter,
            ahead: Bytes::new(),
            unsent: Unsent::default(),
        }
    }

    /// Begins with what was read from the socket before; also tells whether all was sent.
    pub(crate) fn after(mut self, ahead: Bytes) -> (Filtered<F, I>, Unsent) {
        self.ahead = ahead;
        let unsent = self.unsent.clone();
        (self, unsent)
    }

    /// The socket alone.
    pub(crate) fn into_socket(self) -> I {
        self.socket
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut I>
    where
        F: Unpin,
        I: Unpin,
    {
        Pin::new(&mut self.get_mut().socket)
    }
}

impl<F: ReadFilter, I: AsyncRead + Unpin> AsyncRead for Filtered<F, I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filtered = self.get_mut();
        if !filtered.ahead.is_empty() {
            let taken = filtered.ahead.len().min(buf.remaining());
            buf.put_slice(&filtered.ahead[..taken]);
            filtered.ahead.advance(taken);
            filtered.filter.arrived();
            return Poll::Ready(Ok(()));
        }
        let socket = Pin::new(&mut filtered.socket);
        filtered.filter.poll_read(socket, cx, buf)
    }
}

impl<F: ReadFilter, I: AsyncWrite + Unpin> AsyncWrite for Filtered<F, I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let filtered = self.get_mut();
        let written = Pin::new(&mut filtered.socket).poll_write(cx, buf);
        filtered.unsent.note(buf.len(), &written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let filtered = self.get_mut();
        let flushed = Pin::new(&mut filtered.socket).poll_flush(cx);
        let pending = flushed.is_pending();
        filtered.unsent.0.flush.store(pending, Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let filtered = self.get_mut();
        let asked = bufs.iter().map(|buf| buf.len()).sum();
        let written = Pin::new(&mut filtered.socket).poll_write_vectored(cx, bufs);
        filtered.unsent.note(asked, &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
