//! For fuzz targets: internal parsers, certificates, and HTTP/1.1 by hyper, on bytes in memory.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::authority::AuthorityMender;
use crate::connection::Port;
use crate::drain::Drain;
use crate::filtered::Filtered;
use crate::head_mender::HeadMender;
use crate::limits::Limits;
use crate::secure;
use crate::serve::Serve;
use crate::tls;

/// A connection in memory: bytes that have arrived, and those that were written.
#[derive(Clone, Default)]
pub struct MemoryStream {
    arrived: Vec<u8>,
    /// Bytes of a read, at most.
    piece: usize,
    /// What follows the bytes: the end, or silence.
    ends: bool,
    /// The bytes arrive after a write.
    answers: bool,
    written: Arc<Mutex<Vec<u8>>>,
}

impl MemoryStream {
    /// A connection whose peer has sent these bytes, in pieces of that size, and no end.
    pub fn new(arrived: &[u8], piece: usize) -> MemoryStream {
        MemoryStream {
            arrived: arrived.to_vec(),
            piece: piece.max(1),
            ..MemoryStream::default()
        }
    }

    /// The same with the end of the stream.
    #[must_use]
    pub fn with_end(self) -> MemoryStream {
        MemoryStream { ends: true, ..self }
    }

    /// The same of a server, whose bytes arrive after a request.
    #[must_use]
    pub fn of_server(self) -> MemoryStream {
        MemoryStream {
            answers: true,
            ..self
        }
    }

    /// What has been written to the peer.
    pub fn written(&self) -> Vec<u8> {
        let written = self.written.lock();
        written.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let memory = self.get_mut();
        let silent = memory.answers && memory.written().is_empty();
        if silent || memory.arrived.is_empty() && !memory.ends {
            return Poll::Pending;
        }
        let taken = memory.piece.min(buf.remaining()).min(memory.arrived.len());
        buf.put_slice(&memory.arrived[..taken]);
        memory.arrived.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.written.lock();
        let mut written = written.unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether a task is to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls a future until it ends or waits for something outside. `None`: it waits. A Tokio runtime
/// must have been entered, if the future has timers.
pub fn advance<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
    }
}

/// Serves a connection by hyper, until it ends or waits for its client.
pub fn serve_http1<S: Serve>(service: S, connection: MemoryStream, client: SocketAddr) {
    let port = Port::new(service, Limits::default());
    let (drain, mut begun) = (Drain::default(), pin!(pending()));
    let serving = secure::serve_h1(connection, (client, None), &port, &drain, begun.as_mut());
    let _ = advance(pin!(serving));
}

/// HTTP/1.1 requests as hyper gets them, if they arrive in pieces of that size.
pub fn mended_heads(bytes: &[u8], piece: usize) -> Vec<u8> {
    let connection = MemoryStream::new(bytes, piece).with_end();
    read_all(HeadMender::new(connection, usize::MAX))
}

/// An HTTP/2 connection as hyper gets it, if it arrives in pieces of that size.
pub fn mended_authority(bytes: &[u8], piece: usize) -> Vec<u8> {
    let connection = MemoryStream::new(bytes, piece).with_end();
    read_all(Filtered::new(connection, AuthorityMender::new()))
}

fn read_all(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut all, mut space) = (vec![], [0; 1000]);
    loop {
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut reader).poll_read(&mut cx, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                all.extend_from_slice(buffer.filled());
            }
            _ => return all,
        }
    }
}

/// The serial number of a certificate in DER, as it is encoded.
pub fn serial_number(certificate: &[u8]) -> Option<&[u8]> {
    tls::serial_number(certificate)
}

/// The last second of a certificate's validity, in seconds since 1970.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    tls::not_after(certificate)
}

/// The DNS names of a certificate; `None` for damage.
pub fn dns_names(certificate: &[u8]) -> Option<Vec<String>> {
    tls::alternative_names(certificate).map(|names| names.hosts)
}

/// What a file of revocation lists states about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The file cannot be used.
    Unreadable,
    /// No list has the certificate.
    No,
    /// A list has it, or is damaged at its place.
    Yes,
}

/// Checks a certificate with a file of revocation lists.
pub fn revoked(file: &[u8], certificate: &CertificateDer<'_>) -> Revoked {
    match tls::Revocations::of(Path::new("file"), file.to_vec()) {
        Err(_) => Revoked::Unreadable,
        Ok(lists) if lists.check(certificate, &[]).is_ok() => Revoked::No,
        Ok(_) => Revoked::Yes,
    }
}
