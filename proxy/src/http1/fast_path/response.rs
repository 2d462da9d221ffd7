//! Answers, written to a client's bare socket.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Body;
use tokio::net::TcpStream;
use tokio::time;

use crate::http1::body::AnswerBody;
use crate::http1::client::{Head, framing};

/// A client that takes nothing for this time has stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The end of a head.
const BLANK: &[u8] = b"\r\n";
const CLOSE: &[u8] = b"Connection: close\r\n\r\n";

/// Sends a member's answer, in the member's own bytes if they suit the client. Returns what the
/// kernel did not take at once, and what is still to come.
pub(super) fn of_member(
    socket: &TcpStream,
    head: &Head,
    body: AnswerBody,
    last: bool,
) -> io::Result<Option<Box<Unsent>>> {
    match (head.verbatim(), last) {
        (Some(block), false) => begin(socket, block.clone(), body, false),
        (Some(block), true) => {
            let mut block = BytesMut::from(&block[..block.len() - BLANK.len()]);
            block.put_slice(CLOSE);
            begin(socket, block.freeze(), body, false)
        }
        (None, _) => written(socket, head.status, &head.headers(), body, last),
    }
}

/// Sends an answer of the proxy's own.
pub(super) fn own(
    socket: &TcpStream,
    response: Response<AnswerBody>,
    last: bool,
) -> io::Result<Option<Box<Unsent>>> {
    let (parts, body) = response.into_parts();
    written(socket, parts.status, &parts.headers, body, last)
}

/// Sends an answer with a new head.
fn written(
    socket: &TcpStream,
    status: StatusCode,
    headers: &HeaderMap,
    body: AnswerBody,
    last: bool,
) -> io::Result<Option<Box<Unsent>>> {
    let mut head = BytesMut::with_capacity(512);
    keelson_port::write_head(&mut head, status, headers);
    let length = body.size_hint().exact();
    match length {
        _ if is_bodiless(status) || headers.contains_key(CONTENT_LENGTH) => {}
        Some(length) => write!(head, "Content-Length: {length}\r\n").expect("a buffer grows"),
        None => head.put_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    head.put_slice(if last { CLOSE } else { BLANK });
    begin(socket, head.freeze(), body, length.is_none())
}

fn is_bodiless(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Most answers are whole, and are sent in one call.
fn begin(
    socket: &TcpStream,
    head: Bytes,
    body: AnswerBody,
    chunked: bool,
) -> io::Result<Option<Box<Unsent>>> {
    let mut unsent = match body {
        AnswerBody::Whole(bytes) if !chunked => Unsent::of(head, bytes),
        body => Unsent {
            rest: Some((body, chunked)),
            ..Unsent::of(head, Bytes::new())
        },
    };
    let done = unsent.try_send(socket)? && unsent.rest.is_none();
    Ok((!done).then(|| Box::new(unsent)))
}

/// The part of an answer that is not sent yet.
pub(super) struct Unsent {
    first: Bytes,
    second: Bytes,
    /// A body that is still to come, and whether it goes in chunks.
    rest: Option<(AnswerBody, bool)>,
}

impl Unsent {
    fn of(first: Bytes, second: Bytes) -> Unsent {
        Unsent {
            first,
            second,
            rest: None,
        }
    }

    /// Hands the bytes to the kernel, in one call if it takes them. Returns whether it took all.
    fn try_send(&mut self, socket: &TcpStream) -> io::Result<bool> {
        let Unsent { first, second, .. } = self;
        while first.has_remaining() || second.has_remaining() {
            match socket.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    let of_first = sent.min(first.len());
                    first.advance(of_first);
                    second.advance(sent - of_first);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends all of it. The future is large and rarely needed, so callers box it.
    pub(super) async fn send(mut self: Box<Unsent>, socket: &TcpStream) -> io::Result<()> {
        let rest = self.rest.take();
        (*self).flush(socket).await?;
        match rest {
            None => Ok(()),
            Some((mut body, chunked)) => {
                while let Some(part) = next(socket, &mut body).await? {
                    let part = if chunked { framing::chunk(&part) } else { part };
                    Unsent::of(part, Bytes::new()).flush(socket).await?;
                }
                let end = if chunked { framing::LAST_CHUNK } else { b"" };
                let end = Bytes::from_static(end);
                Unsent::of(end, Bytes::new()).flush(socket).await
            }
        }
    }

    async fn flush(mut self, socket: &TcpStream) -> io::Result<()> {
        while !self.try_send(socket)? {
            time::timeout(WRITE_TIMEOUT, socket.writable()).await??;
        }
        Ok(())
    }
}

/// The next part of a body. A member that breaks off and a client that hangs up are errors, which
/// end both connections.
async fn next(socket: &TcpStream, body: &mut AnswerBody) -> io::Result<Option<Bytes>> {
    let mut hung_up = pin!(super::hung_up(socket));
    loop {
        let mut part = pin!(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
        tokio::select! {
            biased;
            frame = &mut part => {
                let Some(frame) = frame else { return Ok(None) };
                let frame = frame.map_err(io::Error::other)?;
                match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                }
            }
            () = &mut hung_up => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}
