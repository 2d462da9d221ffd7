//! Requests that need none of HTTP's machinery.
//!
//! A proxy hands most requests on as they came. Parsing them into headers in a map, and writing those
//! out again, costs more than all the rest, and hyper's buffers outlive the burst of connections that
//! needed them. What is served may therefore look at a connection first, read its next request from
//! the bare socket, and answer it there; whatever it does not want to answer so is left to hyper.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use httpdate::fmt_http_date;
use tokio::net::TcpStream;

use crate::parking::{Parked, Parking};

/// A connection of HTTP/1.1 on which a request has begun.
pub struct Plain<'a> {
    /// Readable, unless `ahead` has something.
    pub socket: &'a mut TcpStream,
    /// What was read of the request already.
    pub ahead: Bytes,
    /// Who asks.
    pub client: SocketAddr,
}

/// How a request that was looked at ended. `ahead` is what has come after it.
pub enum Plainly {
    /// It is answered; the connection goes on.
    Answered {
        /// Of the next request.
        ahead: Bytes,
    },
    /// It is not answered, and nothing of it is lost: all that was read is here.
    Declined {
        /// Of this request.
        ahead: Bytes,
    },
    /// Its answer waits.
    Waits {
        /// The answer.
        parked: Parked,
        /// The client wants the connection closed after it.
        last: bool,
        /// Of the next request.
        ahead: Bytes,
    },
    /// The connection has ended.
    Over,
}

/// A request being answered.
pub type PlainAnswer<'a> = Pin<Box<dyn Future<Output = io::Result<Plainly>> + Send + 'a>>;

/// What came of a handler that may have parked its answer.
pub enum Parkable<T> {
    /// It did.
    Parked(Parked),
    /// It did not.
    Done(T),
}

/// Runs a handler that may leave its answer in the parking it is given.
pub async fn parkable<T, F: Future<Output = T>>(handle: impl FnOnce(Parking) -> F) -> Parkable<T> {
    let parking = Parking::default();
    // In a box, as it would be in the caller's future twice.
    let mut handler = Box::pin(handle(parking.clone()));
    let done = std::future::poll_fn(|cx| match handler.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if parking.is_taken() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    match done.await {
        Some(done) => Parkable::Done(done),
        None => {
            let (parked, _) = parking.take().expect("it is taken");
            Parkable::Parked(parked)
        }
    }
}

/// A response's head as hyper would write it for this port, without what says how the body is framed
/// and without the blank line.
pub fn write_head(bytes: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    bytes.put_slice(b"HTTP/1.1 ");
    bytes.put_slice(status.as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.put_slice(b"\r\n");
    for (name, value) in headers {
        write_field(bytes, name.as_str(), value.as_bytes());
    }
    if !headers.contains_key(http::header::DATE) {
        let now = fmt_http_date(std::time::SystemTime::now());
        write_field(bytes, "date", now.as_bytes());
    }
}

/// One header, whose name is in lower case: written as Go does it, like those that hyper sends.
fn write_field(bytes: &mut BytesMut, name: &str, value: &[u8]) {
    bytes.reserve(name.len() + value.len() + 4);
    let at = bytes.len();
    bytes.put_slice(name.as_bytes());
    let mut first = true;
    for byte in &mut bytes[at..] {
        if first {
            byte.make_ascii_uppercase();
        }
        first = *byte == b'-';
    }
    bytes.put_slice(b": ");
    bytes.put_slice(value);
    bytes.put_slice(b"\r\n");
}
