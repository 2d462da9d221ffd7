//! Long polls without HTTP's buffers.
//!
//! A member may hold ten thousand long polls, and an HTTP connection keeps some 20 KiB of buffers
//! while its request is answered. A handler that waits therefore returns a response whose parts
//! come later, made by [`park`]. The connection drops the buffers, and the parts are written to the
//! bare socket. When the answer ends, the connection serves the next request. An answer that is
//! cut, as at the end of the port, is left without its last chunk: a client that reads a whole
//! answer without an event may not repeat the poll.

use std::error::Error;
use std::fmt;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::Response;
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

use crate::fast_path;

/// A client that takes longer than this for a part has stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Of a chunk: its size, the part, and the line's end.
const PIECES: usize = 3;

/// The end of an answer that is not complete, which the client must be able to detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer ends before its time")
    }
}

impl Error for Cut {}

/// The parts of an answer, over a long time.
type Parts = Pin<Box<dyn Stream<Item = Result<Bytes, Cut>> + Send>>;

/// An answer that comes in parts.
pub struct Parked {
    head: BytesMut,
    parts: Parts,
}

impl Parked {
    /// All of the head. It is needed once.
    fn head(&mut self, last: bool) -> BytesMut {
        let mut head = std::mem::take(&mut self.head);
        if last {
            head.extend_from_slice(b"Connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The head is sent at once, and each part in one write as it comes. After `Cut` the connection
    /// is closed without the end of the answer.
    pub fn new<B>(
        head: &Response<B>,
        parts: impl Stream<Item = Result<Bytes, Cut>> + Send + 'static,
    ) -> Parked {
        Parked {
            head: head_bytes(head),
            parts: Box::pin(parts),
        }
    }

    /// The answer of a response made by [`park`], with the head that the response has by now.
    pub(crate) fn of<B>(response: &mut Response<B>) -> Option<Parked> {
        let LaterParts(parts) = response.extensions_mut().remove()?;
        let parts = parts.lock().take()?;
        let head = head_bytes(response);
        Some(Parked { head, parts })
    }
}

/// An extension of the requests whose answers may be parked: HTTP/1.1 GET requests without a body,
/// on plain connections.
#[derive(Clone, Copy, Debug)]
pub struct Parkable;

/// An extension of a response whose parts come later. Extensions are cloned and shared, a stream is
/// neither.
#[derive(Clone)]
struct LaterParts(Arc<Mutex<Option<Parts>>>);

/// Makes a response to a [`Parkable`] request wait for these parts. They replace its body.
pub fn park<B>(
    mut response: Response<B>,
    parts: impl Stream<Item = Result<Bytes, Cut>> + Send + 'static,
) -> Response<B> {
    let parts = Arc::new(Mutex::new(Some(Box::pin(parts) as Parts)));
    response.extensions_mut().insert(LaterParts(parts));
    response
}

/// The place of a connection's parked answer.
#[derive(Default)]
pub(crate) struct ParkingSlot(Mutex<Option<(Parked, bool)>>);

impl ParkingSlot {
    /// Keeps the answer. `last`: the connection ends with it.
    pub(crate) fn put(&self, parked: Parked, last: bool) {
        *self.0.lock() = Some((parked, last));
    }

    /// Whether an answer is parked.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.lock().is_some()
    }

    /// The answer, and whether the connection ends with it.
    pub(crate) fn take(&self) -> Option<(Parked, bool)> {
        self.0.lock().take()
    }
}

/// Sends the answer to its end, or cuts it at `ending`. Returns whether the connection may go on.
pub(crate) async fn stay(
    socket: &mut TcpStream,
    parked: &mut Parked,
    last: bool,
    mut ending: Pin<&mut impl Future<Output = ()>>,
) -> io::Result<bool> {
    send(socket, parked.head(last).freeze()).await?;
    let mut silent = true;
    let goes_on = loop {
        let mut peeked = [0];
        tokio::select! {
            biased;
            part = parked.parts.next() => match part {
                Some(Ok(part)) => send(socket, chunk(part)).await?,
                Some(Err(Cut)) => return Ok(false),
                None => break !last,
            },
            // The client hung up, or has already sent its next request, which must wait.
            seen = poll_fn(|cx| socket.poll_peek(cx, &mut ReadBuf::new(&mut peeked))),
                if silent =>
            {
                match seen? {
                    0 => return Ok(false),
                    _ => silent = false,
                }
            }
            () = &mut ending => return Ok(false),
        }
    };
    send(socket, Bytes::from_static(b"0\r\n\r\n")).await?;
    Ok(goes_on)
}

/// The write of the bytes that the kernel has not taken at once.
type PendingWrite<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// The kernel nearly always takes all bytes at once. The rest is written by a boxed future, which
/// would otherwise take room in every parked answer.
async fn send(socket: &mut TcpStream, bytes: impl Buf + Send) -> io::Result<()> {
    match begin_sending(socket, bytes)? {
        Some(rest) => rest.await,
        None => Ok(()),
    }
}

fn begin_sending<'a>(
    socket: &'a mut TcpStream,
    mut bytes: impl Buf + Send + 'a,
) -> io::Result<Option<PendingWrite<'a>>> {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let filled = bytes.chunks_vectored(&mut pieces);
    let sent = match socket.try_write_vectored(&pieces[..filled]) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
        sent => sent.unwrap_or(0),
    };
    bytes.advance(sent);
    if !bytes.has_remaining() {
        return Ok(None);
    }
    Ok(Some(Box::pin(async move {
        time::timeout(WRITE_TIMEOUT, socket.write_all_buf(&mut bytes)).await?
    })))
}

/// The part itself is not copied: all watchers of an event share one.
fn chunk(part: Bytes) -> impl Buf + Send {
    let mut size = BytesMut::with_capacity(10);
    write!(size, "{:x}\r\n", part.len()).expect("a buffer grows");
    size.freeze().chain(part).chain(&b"\r\n"[..])
}

/// All but the blank line.
fn head_bytes<B>(head: &Response<B>) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(256);
    fast_path::write_head(&mut bytes, head.status(), head.headers());
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,500 waits for one event of a megabyte must not take 1,500 megabytes.
    #[test]
    fn a_part_is_framed_without_a_copy() {
        let part = Bytes::from(vec![b'x'; 1 << 20]);
        let chunk = chunk(part.clone());
        let mut pieces = [IoSlice::new(&[]); PIECES];
        assert_eq!(chunk.chunks_vectored(&mut pieces), PIECES);
        assert_eq!(pieces[1].as_ptr(), part.as_ptr());
        assert_eq!(
            (&*pieces[0], &*pieces[2]),
            (&b"100000\r\n"[..], &b"\r\n"[..])
        );
    }
}
