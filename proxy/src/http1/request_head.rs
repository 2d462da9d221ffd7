//! The head of a request as members receive it.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use keelson_port::{HEAD_BYTES_MAX, HEADERS_MAX};

use super::headers::{self, PROXIED_BY, X_FORWARDED_FOR};

/// Header fields that a proxy adds to a request, at most.
const ADDED_HEADERS: usize = 8;

/// The size of those fields, and of the request line without its target, in bytes, at most.
const ADDED_BYTES: usize = 512;

/// The client that a request comes from, and the proxy that forwards it.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) client: SocketAddr,
    pub(crate) id: &'a HeaderValue,
}

/// A head while it is written: the request line, then header fields.
pub(crate) struct RequestHead {
    bytes: BytesMut,
    /// Where the request line ends.
    line_end: usize,
    /// Where the fields end; the ones that frame the body follow.
    fields_end: usize,
}

impl RequestHead {
    /// A request line. `target` is path and query.
    pub(crate) fn new(method: &Method, target: &str) -> RequestHead {
        let mut bytes = BytesMut::with_capacity(512);
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.put_u8(b' ');
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        RequestHead {
            line_end: bytes.len(),
            fields_end: bytes.len(),
            bytes,
        }
    }

    /// The head of a parsed request, with its end-to-end fields and those that a proxy adds.
    pub(crate) fn of(parts: &Parts, origin: Origin<'_>) -> RequestHead {
        let mut head = RequestHead::new(&parts.method, target(parts));
        if !parts.headers.contains_key(HOST) {
            let authority = parts.uri.authority();
            let authority = authority.map_or("localhost", |one| one.as_str());
            head.field(HOST.as_str(), authority.as_bytes());
        }
        let named = headers::named_by_connection(&parts.headers);
        for (name, value) in &parts.headers {
            if !is_rewritten(name) && !headers::is_hop_by_hop(name) && !named.contains(name) {
                head.field(name.as_str(), value.as_bytes());
            }
        }
        let clients = headers::forwarded_for(&parts.headers, origin.client);
        head.field(X_FORWARDED_FOR.as_str(), clients.as_bytes());
        head.field(PROXIED_BY.as_str(), origin.id.as_bytes());
        head
    }

    /// A complete head whose fields are written already. It is kept until the answer begins, so it
    /// takes no more room than it needs.
    pub(crate) fn exact(method: &Method, target: &str, fields: &[u8]) -> Bytes {
        let line = RequestHead::new(method, target).bytes;
        [&line[..], fields, b"\r\n"].concat().into()
    }

    /// Appends a field.
    pub(crate) fn field(&mut self, name: &str, value: &[u8]) {
        self.append(name, value);
        self.fields_end = self.bytes.len();
    }

    fn append(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Appends the field that frames the body; `None` is a body of unknown length.
    pub(crate) fn frame(&mut self, method: &Method, length: Option<u64>) {
        let bodiless = matches!(*method, Method::GET | Method::HEAD);
        match length {
            Some(0) if bodiless => {}
            Some(length) => {
                let digits = length.to_string();
                self.append(CONTENT_LENGTH.as_str(), digits.as_bytes());
            }
            None => self.append(TRANSFER_ENCODING.as_str(), b"chunked"),
        }
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        let line = std::str::from_utf8(&self.bytes[..self.line_end]).unwrap_or_default();
        line.split(' ').nth(1).unwrap_or_default()
    }

    /// All fields but those that frame the body.
    pub(crate) fn fields(&self) -> &[u8] {
        &self.bytes[self.line_end..self.fields_end]
    }

    /// The complete head, and as much of the body as there is.
    pub(crate) fn finish(mut self, body: &[u8]) -> BytesMut {
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(body);
        self.bytes
    }
}

/// Whether members would refuse a request for the size of its head: a proxy adds a few fields to
/// those that the client sent.
pub(crate) fn is_too_large(parts: &Parts) -> bool {
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let fields: usize = parts.headers.iter().map(field).sum();
    let bytes = fields + target(parts).len() + ADDED_BYTES;
    HEADERS_MAX < parts.headers.len() + ADDED_HEADERS || HEAD_BYTES_MAX < bytes
}

fn target(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |path| path.as_str())
}

/// Fields that are written anew, or answered by the port (`Expect`).
fn is_rewritten(name: &HeaderName) -> bool {
    name == CONTENT_LENGTH || name == EXPECT || name == X_FORWARDED_FOR
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_head_is_rewritten_for_the_next_hop() {
        let request = Request::get("/v2/keys/a%20b?wait=true")
            .header("host", "localhost:4001")
            .header("connection", "x-secret, keep-alive")
            .header("x-secret", "1")
            .header("authorization", "Basic eA==")
            .header("keelson-proxied-by", "other")
            .header("x-forwarded-for", "10.0.0.7")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let id = HeaderValue::from_static("mine");
        let origin = Origin {
            client: "10.0.0.8:1".parse().unwrap(),
            id: &id,
        };
        let head = RequestHead::of(&parts, origin);
        assert_eq!(head.target(), "/v2/keys/a%20b?wait=true");
        let expected = "GET /v2/keys/a%20b?wait=true HTTP/1.1\r\n\
            host: localhost:4001\r\n\
            authorization: Basic eA==\r\n\
            keelson-proxied-by: other\r\n\
            x-forwarded-for: 10.0.0.7, 10.0.0.8\r\n\
            keelson-proxied-by: mine\r\n\r\n";
        assert_eq!(std::str::from_utf8(&head.finish(b"")).unwrap(), expected);
    }
}
