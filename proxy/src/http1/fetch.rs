//! The proxy's own small GET requests.

use std::io;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use crate::address::Address;
use crate::http1::client::{Connection, Decoded, Head};
use crate::http1::headers::PROXIED_BY;
use crate::http1::request_head::RequestHead;

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The time in which a member must take a small request.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends a request and reads the head of the answer; `id` marks it as this proxy's.
pub(crate) async fn send(
    connection: &mut Connection,
    address: &Address,
    path: &str,
    id: Option<&HeaderValue>,
) -> io::Result<Head> {
    let mut head = RequestHead::new(&Method::GET, path);
    head.field("Host", address.to_string().as_bytes());
    if let Some(id) = id {
        head.field(PROXIED_BY.as_str(), id.as_bytes());
    }
    connection.send(&head.finish(b""), SEND_TIMEOUT).await?;
    connection.head(&Method::GET).await
}

/// Returns the headers and the body of an answer whose status is 200.
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
    let body = body(&mut connection, &mut head, BODY_BYTES_MAX).await?;
    Ok((head.headers(), body))
}

/// Reads the body of an answer.
pub(crate) async fn body(
    connection: &mut Connection,
    head: &mut Head,
    bytes_max: usize,
) -> io::Result<Vec<u8>> {
    let mut body = vec![];
    loop {
        match head.framing.decode(&mut connection.received)? {
            Decoded::Part(part) if bytes_max < body.len() + part.len() => {
                return Err(io::Error::other("its answer is too long"));
            }
            Decoded::Part(part) => body.extend_from_slice(&part),
            Decoded::End => return Ok(body),
            Decoded::Starved => match connection.more().await {
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && head.framing.may_end() =>
                {
                    return Ok(body);
                }
                filled => filled?,
            },
        }
    }
}
