//! Requests that Go's servers refuse before routing, with Go's answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::{Body, Frame, SizeHint};

use crate::byte_set::ByteSet;
use crate::gathered::OneOpen;

/// Go's refusal of a request of HTTP/1.x, if it is one that Go refuses: 400 without exactly one
/// well-formed `Host` (HTTP/1.0 needs none), 417 for an expectation other than `100-continue`. The
/// connection ends with it.
pub fn refusal(request: &Parts) -> Option<Response<Bytes>> {
    refusal_of(&request.method, request.version, &request.headers)
}

pub(crate) fn refusal_of(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Option<Response<Bytes>> {
    let mut hosts = headers.get_all(HOST).iter();
    let bad = match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 && method != Method::CONNECT => {
            Some("missing required Host header")
        }
        (Some(_), Some(_)) => Some("too many Host headers"),
        (Some(host), None) if !is_host(host.as_bytes()) => Some("malformed Host header"),
        _ => None,
    };
    if let Some(bad) = bad {
        let text = format!("400 Bad Request: {bad}");
        return Some(closing(StatusCode::BAD_REQUEST, text));
    }
    let expects = headers.get(EXPECT).filter(|value| !value.is_empty());
    let other = expects.is_some_and(|value| !has_token(value, "100-continue"));
    other.then(|| closing(StatusCode::EXPECTATION_FAILED, String::new()))
}

/// Whether a `Host` is made of what hosts are made of: `ValidHostHeader` of Go's httpguts. An empty
/// one is fine.
pub fn is_host(host: &[u8]) -> bool {
    const VALID: ByteSet = ByteSet::alphanumeric_and(b"!$%&'()*+,-.:;=[]_~");
    host.iter().all(|byte| VALID.contains(*byte))
}

/// Go's `HasToken`: one of a list, in any case of letters.
fn has_token(value: &HeaderValue, token: &str) -> bool {
    let mut tokens = value
        .as_bytes()
        .split(|byte| matches!(byte, b',' | b' ' | b'\t'));
    tokens.any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

fn closing(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The body of an answer: the service's, or the port's own.
pub(crate) enum Answer<B> {
    /// The service's; over HTTP/2 it is counted as open until it ends.
    Served(B, Option<OneOpen>),
    Refused(Bytes),
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.get_mut() {
            Answer::Served(body, open) => {
                let frame = Pin::new(body).poll_frame(cx);
                if let (Some(open), true) = (open, frame.is_ready()) {
                    open.sends();
                }
                frame
            }
            Answer::Refused(text) if text.is_empty() => Poll::Ready(None),
            Answer::Refused(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Served(body, _) => body.is_end_stream(),
            Answer::Refused(text) => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Served(body, _) => body.size_hint(),
            Answer::Refused(text) => SizeHint::with_exact(text.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(version: Version, fields: &[(&str, &str)]) -> Option<(u16, Bytes)> {
        let mut request = Request::get("/v2/keys").version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let refusal = refusal(&parts)?;
        assert_eq!(refusal.headers()[CONNECTION], "close");
        Some((refusal.status().as_u16(), refusal.into_body()))
    }

    #[test]
    fn a_request_needs_one_sound_host_as_in_go() {
        let bad = |text: &str| Some((400, Bytes::from(format!("400 Bad Request: {text}"))));
        let cases: [(&[(&str, &str)], _); 9] = [
            (&[("host", "localhost:2379")], None),
            (&[("host", "[::1]:2379")], None),
            (&[("host", "")], None),
            (&[], bad("missing required Host header")),
            (
                &[("host", "a"), ("host", "a")],
                bad("too many Host headers"),
            ),
            (&[("host", "a/b c")], bad("malformed Host header")),
            (&[("host", "a"), ("expect", "100-Continue")], None),
            (&[("host", "a"), ("expect", "")], None),
            (
                &[("host", "a"), ("expect", "junk")],
                Some((417, Bytes::new())),
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(refused(Version::HTTP_11, fields), expected, "{fields:?}");
        }
        assert_eq!(refused(Version::HTTP_10, &[]), None);
        let two = refused(Version::HTTP_10, &[("host", "a"), ("host", "b")]);
        assert_eq!(two, bad("too many Host headers"));
    }
}
