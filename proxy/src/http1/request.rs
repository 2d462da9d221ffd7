//! A client's request, as it goes to members.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Body;
use keelson_port::{HEAD_BYTES_MAX, HEADERS_MAX, Incoming};
use tokio::time;

use crate::http1::headers::{self, PROXIED_BY, X_FORWARDED_FOR};

/// Bodies up to here are read before they are sent, so that they can be sent to another member
/// when the first does not take them.
pub(crate) const SMALL_BYTES_MAX: u64 = 64 * 1024;

const KEYS: &str = "/v2/keys";
const CLUSTER: [&str; 3] = ["/v2/members", "/v2/machines", "/v2/auth"];

/// Of the v3 JSON gateway, in the middle: every version of it has a prefix of its own.
const CLUSTER_V3: [&str; 3] = ["/cluster/member/", "/auth/", "/lease/leases"];

/// Requests of the v3 JSON gateway that only read; by their last words, because every version of it
/// has a prefix of its own.
const GATEWAY_READS: [&str; 12] = [
    "/kv/range",
    "/cluster/member/list",
    "/maintenance/status",
    "/maintenance/hash",
    "/lease/leases",
    "/lease/timetolive",
    "/auth/authenticate",
    "/auth/status",
    "/auth/user/get",
    "/auth/user/list",
    "/auth/role/get",
    "/auth/role/list",
];

/// Everything but a body that is too large to be kept.
pub(crate) struct UpstreamRequest {
    pub(crate) method: Method,
    pub(crate) subject: Subject,
    /// It changes nothing, and may be sent as often as one likes.
    pub(crate) read: bool,
    /// The head, and a small body behind it.
    pub(crate) bytes: Bytes,
    /// A body that is sent as it comes.
    pub(crate) rest: Option<Rest>,
}

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// Under `/v2/keys`, where members answer within a known time, say how far they are, and errors have
    /// their own form.
    Keys,
    /// Members, accounts and leases, where they do not say it.
    Cluster,
    /// Anything else.
    Other,
}

/// Headers that a proxy adds to a request, at most.
const ADDED_HEADERS: usize = 8;

/// What those take, and the request line beside its path, in bytes, at most.
const ADDED_BYTES: usize = 512;

/// A large body.
pub(crate) struct Rest {
    pub(crate) body: Incoming,
    /// Its length is not known before its end.
    pub(crate) chunked: bool,
}

/// Where a request comes from, and through whom.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) client: SocketAddr,
    pub(crate) id: &'a HeaderValue,
}

/// From the end of a request's head to the end of its small body. A larger one ends by the member's limit.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A client that did not send what it promised.
#[derive(Debug)]
pub(crate) enum Incomplete {
    /// It has left.
    Gone,
    /// Not in time.
    Late,
}

/// A request whose small body is still to be read.
pub(crate) struct Draft {
    outgoing: UpstreamRequest,
    bytes: BytesMut,
    small: Option<Incoming>,
}

impl Subject {
    pub(crate) fn of(path: &str) -> Subject {
        if is_keys(path) {
            Subject::Keys
        } else if CLUSTER.iter().any(|prefix| path.starts_with(prefix))
            || path.starts_with("/v3") && CLUSTER_V3.iter().any(|part| path.contains(part))
        {
            Subject::Cluster
        } else {
            Subject::Other
        }
    }
}

impl Draft {
    pub(crate) fn new(parts: &Parts, body: Incoming, origin: Origin<'_>) -> Draft {
        let mut bytes = request_line(&parts.method, path_of(parts));
        add_fields(&mut bytes, parts, origin);
        let length = body.size_hint().exact();
        let bodiless = parts.method == Method::GET || parts.method == Method::HEAD;
        match length {
            Some(0) if bodiless => {}
            Some(length) => field(
                &mut bytes,
                CONTENT_LENGTH.as_str(),
                length.to_string().as_bytes(),
            ),
            None => field(&mut bytes, TRANSFER_ENCODING.as_str(), b"chunked"),
        }
        bytes.extend_from_slice(b"\r\n");
        let is_small = length.is_some_and(|length| length <= SMALL_BYTES_MAX);
        let chunked = length.is_none();
        let (small, rest) = match is_small {
            true => (Some(body).filter(|body| !body.is_end_stream()), None),
            false => (None, Some(Rest { body, chunked })),
        };
        let path = parts.uri.path();
        let outgoing = UpstreamRequest {
            method: parts.method.clone(),
            subject: Subject::of(path),
            read: reads(&parts.method, path),
            bytes: Bytes::new(),
            rest,
        };
        Draft {
            outgoing,
            bytes,
            small,
        }
    }

    /// Reads a small body to its end.
    pub(crate) async fn complete(mut self) -> Result<UpstreamRequest, Incomplete> {
        if let Some(body) = &mut self.small {
            read_into(&mut self.bytes, body).await?;
        }
        self.outgoing.bytes = self.bytes.freeze();
        Ok(self.outgoing)
    }
}

impl UpstreamRequest {
    /// With a body that has come whole.
    pub(crate) fn whole(parts: &Parts, body: &[u8], origin: Origin<'_>) -> UpstreamRequest {
        let mut bytes = request_line(&parts.method, path_of(parts));
        add_fields(&mut bytes, parts, origin);
        let bodiless = parts.method == Method::GET || parts.method == Method::HEAD;
        if !bodiless || !body.is_empty() {
            let length = body.len().to_string();
            field(&mut bytes, CONTENT_LENGTH.as_str(), length.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        let path = parts.uri.path();
        UpstreamRequest {
            method: parts.method.clone(),
            subject: Subject::of(path),
            read: reads(&parts.method, path),
            bytes: bytes.freeze(),
            rest: None,
        }
    }

    /// A GET under the v2 keys.
    pub(crate) fn get(path: &str, fields: &[u8]) -> UpstreamRequest {
        // In no more room than it needs: it is kept until the answer begins.
        let line = request_line(&Method::GET, path);
        let bytes = [&line[..], fields, b"\r\n"].concat();
        UpstreamRequest {
            method: Method::GET,
            subject: Subject::Keys,
            read: true,
            bytes: bytes.into(),
            rest: None,
        }
    }
}

/// Reads a small body to its end, within bounds.
async fn read_into<B>(bytes: &mut BytesMut, body: &mut B) -> Result<(), Incomplete>
where
    B: Body<Data = Bytes> + Unpin,
{
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Incomplete::Gone)?;
            bytes.put(frame.into_data().unwrap_or_default());
        }
        Ok(())
    };
    // In a box: it would make room for itself in every request.
    let read = Box::pin(time::timeout(BODY_TIME_MAX, read)).await;
    read.unwrap_or(Err(Incomplete::Late))
}

/// A request's headers as they go to members, in no more room than they need: they are kept as long
/// as the request waits.
pub(crate) fn fields(parts: &Parts, origin: Origin<'_>) -> Box<[u8]> {
    let mut bytes = BytesMut::with_capacity(512);
    add_fields(&mut bytes, parts, origin);
    Box::from(&bytes[..])
}

/// Whether members would refuse a request for the size of its head: they get a
/// few headers more than the client has sent.
pub(crate) fn is_too_large(parts: &Parts) -> bool {
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let fields: usize = parts.headers.iter().map(field).sum();
    let bytes = fields + path_of(parts).len() + ADDED_BYTES;
    HEADERS_MAX < parts.headers.len() + ADDED_HEADERS || HEAD_BYTES_MAX < bytes
}

/// Whether a path is of the v2 keys.
pub(crate) fn is_keys(path: &str) -> bool {
    path.starts_with(KEYS)
}

/// Whether a request changes nothing.
pub(crate) fn reads(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD => true,
        Method::POST => {
            path.starts_with("/v3") && GATEWAY_READS.iter().any(|end| path.ends_with(end))
        }
        _ => false,
    }
}

pub(crate) fn path_of(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |path| path.as_str())
}

/// The first line of a head.
pub(crate) fn request_line(method: &Method, path: &str) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(512);
    bytes.extend_from_slice(method.as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.extend_from_slice(path.as_bytes());
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    bytes
}

/// The headers, without the line that ends them.
fn add_fields(bytes: &mut BytesMut, parts: &Parts, origin: Origin<'_>) {
    if !parts.headers.contains_key(HOST) {
        let authority = parts
            .uri
            .authority()
            .map_or("localhost", |one| one.as_str());
        field(bytes, HOST.as_str(), authority.as_bytes());
    }
    let named = headers::named_by_connection(&parts.headers);
    for (name, value) in &parts.headers {
        if !is_ours(name) && !headers::is_hop_by_hop(name) && !named.contains(name) {
            field(bytes, name.as_str(), value.as_bytes());
        }
    }
    let clients = headers::forwarded_for(&parts.headers, origin.client);
    field(bytes, X_FORWARDED_FOR.as_str(), clients.as_bytes());
    field(bytes, PROXIED_BY.as_str(), origin.id.as_bytes());
}

/// What is written anew. `Expect` is answered by the port.
fn is_ours(name: &HeaderName) -> bool {
    name == CONTENT_LENGTH || name == EXPECT || name == X_FORWARDED_FOR
}

/// One more header.
pub(crate) fn field(bytes: &mut BytesMut, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http::Request;
    use hyper::body::Frame;

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
        let outgoing = UpstreamRequest::get(path_of(&parts), &fields(&parts, origin));
        let expected = "GET /v2/keys/a%20b?wait=true HTTP/1.1\r\n\
            host: localhost:4001\r\n\
            authorization: Basic eA==\r\n\
            keelson-proxied-by: other\r\n\
            x-forwarded-for: 10.0.0.7, 10.0.0.8\r\n\
            keelson-proxied-by: mine\r\n\r\n";
        assert_eq!(std::str::from_utf8(&outgoing.bytes).unwrap(), expected);
    }

    /// A body of which nothing more comes.
    struct Stuck;

    impl Body for Stuck {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_body_that_does_not_end_is_not_waited_for_for_ever() {
        let began = time::Instant::now();
        let read = read_into(&mut BytesMut::new(), &mut Stuck).await;
        assert!(matches!(read, Err(Incomplete::Late)));
        assert_eq!(began.elapsed().as_secs(), 60);
    }

    #[test]
    fn reads_are_known_by_method_and_path() {
        let cases = [
            (Method::GET, "/v2/keys/a", true),
            (Method::HEAD, "/version", true),
            (Method::PUT, "/v2/keys/a", false),
            (Method::DELETE, "/v2/keys/a", false),
            (Method::POST, "/v2/keys/kv/range", false),
            (Method::POST, "/v3/kv/range", true),
            (Method::POST, "/v3beta/kv/range", true),
            (Method::POST, "/v3/kv/put", false),
            (Method::POST, "/v3/kv/txn", false),
            (Method::POST, "/v3/auth/user/list", true),
            (Method::POST, "/v3/auth/user/add", false),
        ];
        for (method, path, expected) in cases {
            assert_eq!(reads(&method, path), expected, "{method} {path}");
        }
    }
    #[test]
    fn subjects_are_known_by_path() {
        let cases = [
            ("/v2/keys/v2/members", Subject::Keys),
            ("/v2/members", Subject::Cluster),
            ("/v2/members/leader", Subject::Cluster),
            ("/v2/auth/users/root", Subject::Cluster),
            ("/v3/cluster/member/list", Subject::Cluster),
            ("/v3alpha/auth/user/add", Subject::Cluster),
            ("/v3/lease/leases", Subject::Cluster),
            ("/v2/machines", Subject::Cluster),
            ("/v3/kv/range", Subject::Other),
            ("/v2/stats/self", Subject::Other),
            ("/version", Subject::Other),
        ];
        for (path, expected) in cases {
            assert_eq!(Subject::of(path), expected, "{path}");
        }
    }
}
