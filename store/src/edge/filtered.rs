//! A socket whose reading side is looked at on the way; writing goes straight through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is done with what a client sends.
pub(super) trait ReadFilter: Unpin {
    /// Reads from the socket, as `AsyncRead` would.
    fn poll_read(
        &mut self,
        socket: Pin<&mut TcpStream>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;
}

/// The socket and its filter.
pub(super) struct Filtered<F> {
    socket: TcpStream,
    filter: F,
}

impl<F> Filtered<F> {
    pub(super) fn new(socket: TcpStream, filter: F) -> Filtered<F> {
        Filtered { socket, filter }
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut TcpStream>
    where
        F: Unpin,
    {
        Pin::new(&mut self.get_mut().socket)
    }
}

impl<F: ReadFilter> AsyncRead for Filtered<F> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filtered = self.get_mut();
        let socket = Pin::new(&mut filtered.socket);
        filtered.filter.poll_read(socket, cx, buf)
    }
}

impl<F: ReadFilter> AsyncWrite for Filtered<F> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
