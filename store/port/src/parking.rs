//! Long waits without HTTP's machinery.
//!
//! A member may hold ten thousand long polls, and an HTTP connection keeps some 20 KiB of buffers
//! while its request is answered. A handler that is going to wait hands its answer to `Parking`
//! instead: the connection drops the machinery, and the answer is written to the bare socket as its
//! parts come. When it ends, the connection goes on with the next request.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::Response;
use http::header::CONNECTION;
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

use crate::plain;

/// A client that takes longer than this for a part has stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer that comes in parts, over a long time.
pub struct Parked {
    head: BytesMut,
    parts: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
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

    /// The head is sent at once, the parts as they come, each in one write.
    pub fn new(head: &Response<()>, parts: impl Stream<Item = Bytes> + Send + 'static) -> Parked {
        Parked {
            head: head_bytes(head),
            parts: Box::pin(parts),
        }
    }
}

/// Where a handler leaves an answer that waits; among the extensions of HTTP/1.1 GET requests.
#[derive(Clone, Default)]
pub struct Parking(Arc<Mutex<Place>>);

#[derive(Default)]
struct Place {
    parked: Option<Parked>,
    /// The client wants the connection closed after this answer.
    last: bool,
}

impl Parking {
    /// Leaves the answer to the connection. The handler's own future must never end after this: it
    /// is dropped. To be called from that future, not from another task.
    pub async fn park<T>(&self, parked: Parked) -> T {
        self.0.lock().parked = Some(parked);
        std::future::pending().await
    }

    /// Whether an answer has been left.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.lock().parked.is_some()
    }

    /// A request has come; notes how its client wants to go on.
    pub(crate) fn note(&self, request: &http::request::Parts) {
        let mut named = request.headers.get_all(CONNECTION).iter();
        let closes = named.any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        self.0.lock().last = closes;
    }

    /// The answer, and whether the connection ends with it.
    pub(crate) fn take(&self) -> Option<(Parked, bool)> {
        let mut place = self.0.lock();
        let last = place.last;
        place.parked.take().map(|parked| (parked, last))
    }
}

/// Sends the answer to its end, or until `ending`. Returns whether the connection may go on.
pub(crate) async fn stay(
    socket: &mut TcpStream,
    parked: &mut Parked,
    last: bool,
    mut ending: Pin<&mut impl Future<Output = ()>>,
) -> io::Result<bool> {
    send(socket, parked.head(last)).await?;
    let mut silent = true;
    let goes_on = loop {
        let mut peeked = [0];
        tokio::select! {
            biased;
            part = parked.parts.next() => match part {
                Some(part) => send(socket, chunk(&part)).await?,
                None => break !last,
            },
            // The client hung up, or has already sent its next request, which must wait.
            seen = poll_fn(|cx| socket.poll_peek(cx, &mut ReadBuf::new(&mut peeked))), if silent => match seen? {
                0 => return Ok(false),
                _ => silent = false,
            },
            () = &mut ending => break false,
        }
    };
    send(socket, BytesMut::from(&b"0\r\n\r\n"[..])).await?;
    Ok(goes_on)
}

/// What the kernel has not taken yet, on its way.
type Rest<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// Nearly always the kernel takes all of it at once; what it does not is in a box, since it would take
/// room in every answer that waits.
fn send(
    socket: &mut TcpStream,
    mut bytes: BytesMut,
) -> impl Future<Output = io::Result<()>> + use<'_> {
    let rest: io::Result<Option<Rest<'_>>> = match socket.try_write(&bytes) {
        Ok(sent) if sent == bytes.len() => Ok(None),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        sent => {
            bytes.advance(sent.unwrap_or(0));
            let writing = async move { socket.write_all(&bytes).await };
            Ok(Some(Box::pin(async {
                time::timeout(WRITE_TIMEOUT, writing).await?
            })))
        }
    };
    async move {
        match rest? {
            Some(rest) => rest.await,
            None => Ok(()),
        }
    }
}

fn chunk(part: &Bytes) -> BytesMut {
    let mut chunk = BytesMut::with_capacity(part.len() + 12);
    write!(chunk, "{:x}\r\n", part.len()).expect("a buffer grows");
    chunk.extend_from_slice(part);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// All but the blank line.
fn head_bytes(head: &Response<()>) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(256);
    plain::write_head(&mut bytes, head.status(), head.headers());
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    bytes
}
