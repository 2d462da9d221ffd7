//! Small GET requests of the proxy's own.

use std::io;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use crate::address::Address;
use crate::http1::client::{Connection, Decoded, Head};
use crate::http1::headers::PROXIED_BY;

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// For a member to take a small request.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends a request and reads the head of the answer; `id` marks it as this proxy's.
pub(crate) async fn send(
    connection: &mut Connection,
    address: &Address,
    path: &str,
    id: Option<&HeaderValue>,
) -> io::Result<Head> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n").into_bytes();
    if let Some(id) = id {
        request.extend_from_slice(PROXIED_BY.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(id.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    connection.send(&request, SEND_TIMEOUT).await?;
    connection.head(&Method::GET).await
}

/// A whole answer, with the status 200.
pub(crate) async fn get(
    address: &Address,
    path: &str,
    dial_timeout: Duration,
) -> io::Result<(HeaderMap, Vec<u8>)> {
    let mut connection = Connection::open(address, dial_timeout).await?;
    let mut head = send(&mut connection, address, path, None).await?;
    if head.status != http::StatusCode::OK {
        return Err(io::Error::other(format!("it answers {}", head.status)));
    }
    let mut body = vec![];
    loop {
        match head.framing.decode(&mut connection.received)? {
            Decoded::Part(part) if BODY_BYTES_MAX < body.len() + part.len() => {
                return Err(io::Error::other("its answer is too long"));
            }
            Decoded::Part(part) => body.extend_from_slice(&part),
            Decoded::End => return Ok((head.headers(), body)),
            Decoded::Starved => match connection.more().await {
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && head.framing.may_end() =>
                {
                    return Ok((head.headers(), body));
                }
                filled => filled?,
            },
        }
    }
}
