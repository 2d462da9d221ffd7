//! A fast path around hyper for HTTP/1.1 requests.
//!
//! A proxy forwards most requests unchanged. Parsing them into a header map and writing that out
//! again costs more than all other work, and hyper's buffers outlive the burst of connections that
//! needed them. A service may therefore read the next request from the bare socket and answer it
//! there. Requests that the service declines are served by hyper.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use httpdate::fmt_http_date;
use tokio::net::TcpStream;

use crate::parking::Parked;

/// An HTTP/1.1 connection on which a request has begun.
pub struct FastPath<'a> {
    /// Readable, unless `read_ahead` holds bytes.
    pub socket: &'a mut TcpStream,
    /// The bytes of the request that have been read already.
    pub read_ahead: Bytes,
    /// The address of the client.
    pub client: SocketAddr,
}

/// How the fast path ended. `read_ahead` holds the bytes that follow the request.
pub enum FastPathOutcome {
    /// The request is answered; the connection stays open.
    Answered {
        /// Of the next request.
        read_ahead: Bytes,
    },
    /// The request is not answered. `read_ahead` holds all bytes that were read of it.
    Declined {
        /// Of this request.
        read_ahead: Bytes,
    },
    /// The answer is parked: its parts come later.
    Parked {
        /// The answer.
        parked: Parked,
        /// The connection is closed after the answer.
        last: bool,
        /// Of the next request.
        read_ahead: Bytes,
    },
    /// The connection is closed.
    Closed,
}

/// The future of the fast path.
pub type FastPathAnswer<'a> =
    Pin<Box<dyn Future<Output = io::Result<FastPathOutcome>> + Send + 'a>>;

/// Writes a response's head as hyper writes it for this port, without the fields that frame the
/// body and without the blank line.
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

/// Writes one field in Go's canonical case, as hyper does here. The name is in lower case.
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
