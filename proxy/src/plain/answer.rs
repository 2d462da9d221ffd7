//! Writes answers to a client's bare socket.

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

use crate::body::AnswerBody;
use crate::client::Head;

/// A client that takes nothing for so long has stopped reading.
const PATIENCE: Duration = Duration::from_secs(30);

/// What ends a head.
const BLANK: &[u8] = b"\r\n";
const CLOSE: &[u8] = b"Connection: close\r\n\r\n";

/// Passes a member's answer on; in its own bytes where that may be.
pub(super) async fn of_member(
    socket: &TcpStream,
    head: &Head,
    body: AnswerBody,
    last: bool,
) -> io::Result<()> {
    match (head.verbatim(), last) {
        (Some(block), false) => known(socket, block.clone(), body).await,
        (Some(block), true) => {
            let mut block = BytesMut::from(&block[..block.len() - BLANK.len()]);
            block.put_slice(CLOSE);
            known(socket, block.freeze(), body).await
        }
        (None, _) => written(socket, head.status, &head.headers(), body, last).await,
    }
}

/// Sends an answer that is not a member's as it came.
pub(super) async fn own(
    socket: &TcpStream,
    response: Response<AnswerBody>,
    last: bool,
) -> io::Result<()> {
    let (parts, body) = response.into_parts();
    written(socket, parts.status, &parts.headers, body, last).await
}

/// With a head written anew.
async fn written(
    socket: &TcpStream,
    status: StatusCode,
    headers: &HeaderMap,
    body: AnswerBody,
    last: bool,
) -> io::Result<()> {
    let mut head = BytesMut::with_capacity(512);
    keelson_port::write_head(&mut head, status, headers);
    let length = body.size_hint().exact();
    match length {
        _ if is_bodiless(status) || headers.contains_key(CONTENT_LENGTH) => {}
        Some(length) => write!(head, "Content-Length: {length}\r\n").expect("a buffer grows"),
        None => head.put_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    head.put_slice(if last { CLOSE } else { BLANK });
    match length {
        Some(_) => known(socket, head.freeze(), body).await,
        None => chunked(socket, head.freeze(), body).await,
    }
}

fn is_bodiless(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// A body of a known length.
async fn known(socket: &TcpStream, head: Bytes, mut body: AnswerBody) -> io::Result<()> {
    if let AnswerBody::Whole(bytes) = body {
        return send(socket, head, bytes).await;
    }
    send(socket, head, Bytes::new()).await?;
    while let Some(part) = next(socket, &mut body).await? {
        send(socket, part, Bytes::new()).await?;
    }
    Ok(())
}

async fn chunked(socket: &TcpStream, head: Bytes, mut body: AnswerBody) -> io::Result<()> {
    send(socket, head, Bytes::new()).await?;
    while let Some(part) = next(socket, &mut body).await? {
        let mut chunk = BytesMut::with_capacity(part.len() + 12);
        write!(chunk, "{:x}\r\n", part.len()).expect("a buffer grows");
        chunk.put_slice(&part);
        chunk.put_slice(BLANK);
        send(socket, chunk.freeze(), Bytes::new()).await?;
    }
    send(socket, Bytes::from_static(b"0\r\n\r\n"), Bytes::new()).await
}

/// The next part; an error when the member breaks off or the client hangs up, which ends both.
async fn next(socket: &TcpStream, body: &mut AnswerBody) -> io::Result<Option<Bytes>> {
    let mut talks_on = false;
    loop {
        let mut peeked = [0];
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
            seen = socket.peek(&mut peeked), if !talks_on => match seen? {
                0 => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => talks_on = true,
            },
        }
    }
}

/// Hands both to the kernel, in one call where it takes them.
async fn send(socket: &TcpStream, mut first: Bytes, mut second: Bytes) -> io::Result<()> {
    while first.has_remaining() || second.has_remaining() {
        let parts = [IoSlice::new(&first), IoSlice::new(&second)];
        match socket.try_write_vectored(&parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => {
                let of_first = sent.min(first.len());
                first.advance(of_first);
                second.advance(sent - of_first);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                time::timeout(PATIENCE, socket.writable()).await??;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
