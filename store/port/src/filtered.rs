//! A socket with a filter on its reading side. Writes pass through unchanged, and the filter gets
//! their sizes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A filter of the bytes that a client sends.
pub(crate) trait ReadFilter: Unpin {
    /// Reads from the socket, as `AsyncRead` would. An error of `passed` comes without bytes.
    fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        socket: Pin<&mut I>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match socket.poll_read(cx, buf) {
            Poll::Ready(read) => {
                read?;
                let passed = self.passed(&buf.filled()[before..]);
                if passed.is_err() {
                    buf.set_filled(before);
                }
                Poll::Ready(passed)
            }
            Poll::Pending => {
                ready!(self.poll_expired(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// These bytes have been read from the socket; none at its end. An error ends the connection.
    fn passed(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Ready once the client has taken too long; polled while nothing can be read.
    fn poll_expired(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// What the client is sent, as far as the socket takes it, before the connection ends with an
    /// error of this filter.
    fn farewell(&mut self) -> Option<BytesMut> {
        None
    }

    /// Bytes of the client have come by another way.
    fn arrived(&mut self) {}

    /// The socket has taken so many bytes, and `all`: not fewer than it was offered.
    fn wrote(&mut self, _bytes: usize, _all: bool) {}
}

/// The socket, or TLS over one, and its filter.
pub(crate) struct Filtered<F, I = TcpStream> {
    socket: I,
    filter: F,
    /// What had been read from the socket before it came here.
    ahead: Bytes,
    unsent: Unsent,
}

/// Whether bytes wait to be sent that the socket did not take.
#[derive(Clone, Default)]
pub(crate) struct Unsent(Arc<UnsentFlags>);

#[derive(Default)]
struct UnsentFlags {
    write: AtomicBool,
    /// TLS takes more than it sends.
    flush: AtomicBool,
}

impl Unsent {
    pub(crate) fn get(&self) -> bool {
        self.0.write.load(Ordering::Relaxed) || self.0.flush.load(Ordering::Relaxed)
    }

    fn note(&self, all: bool) {
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

    /// Starts with bytes that were read from the socket before. Also returns whether all bytes were
    /// sent.
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

impl<F: ReadFilter, I> Filtered<F, I> {
    fn note(&mut self, asked: usize, written: &Poll<io::Result<usize>>) {
        let bytes = match written {
            Poll::Ready(Ok(bytes)) => *bytes,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        let all = written.is_ready() && bytes == asked;
        self.unsent.note(all);
        self.filter.wrote(bytes, all);
    }
}

impl<F: ReadFilter, I: AsyncWrite + Unpin> Filtered<F, I> {
    /// Sends the filter's last words, unless the socket has taken only a part of a frame.
    fn say_farewell(&mut self, cx: &mut Context<'_>) {
        let Some(farewell) = self.filter.farewell().filter(|_| !self.unsent.get()) else {
            return;
        };
        let mut socket = Pin::new(&mut self.socket);
        if socket.as_mut().poll_write(cx, &farewell).is_ready() {
            let _ = socket.poll_flush(cx);
        }
    }
}

impl<F: ReadFilter, I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Filtered<F, I> {
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
        let read = filtered.filter.poll_read(socket, cx, buf);
        if matches!(read, Poll::Ready(Err(_))) {
            filtered.say_farewell(cx);
        }
        read
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
        filtered.note(buf.len(), &written);
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
        filtered.note(asked, &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
