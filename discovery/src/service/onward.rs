//! Requests forwarded to the registry, and its answers returned.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Request, Response, request};
use http_body_util::BodyExt;

use super::metrics::OpenWait;
use super::registry::Body;
use super::tokens::ROOT;

/// Headers of the connection, not of the request (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A client's request in the form for the registry; `None` if the path does not exist there.
pub(super) fn onward(path: &str, parts: request::Parts, body: Bytes) -> Option<Request<Bytes>> {
    let mut target = format!("{ROOT}/{path}");
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut request = Request::new(body);
    *request.uri_mut() = target.parse().ok()?;
    *request.method_mut() = parts.method;
    *request.headers_mut() = end_to_end(parts.headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        request.headers_mut().remove(name);
    }
    Some(request)
}

/// Counts a wait as open until its body is sent, or its client has left.
pub(super) fn open(body: Body, wait: Option<OpenWait>) -> Body {
    match wait {
        None => body,
        Some(wait) => body
            .map_frame(move |frame| {
                let _open = &wait;
                frame
            })
            .boxed_unsync(),
    }
}

pub(super) fn passed_on(answer: Response<Body>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    parts.headers = end_to_end(parts.headers);
    parts.version = http::Version::HTTP_11;
    Response::from_parts(parts, body)
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}

/// Whether a query is a wait's.
pub(super) fn is_wait(query: Option<&str>) -> bool {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs
        .into_iter()
        .any(|(key, value)| key == "wait" && value != "false")
}
