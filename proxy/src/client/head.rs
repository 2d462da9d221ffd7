//! The head of an answer.

use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::client::framing::Framing;
use crate::headers;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 96;

/// What a member answers before the body.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// The end-to-end ones.
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// Whether the connection may be used again after the body.
    pub(crate) keep: bool,
}

/// Takes a head off `received`; `None` when it is not complete.
pub(crate) fn parse(received: &mut BytesMut, method: &Method) -> io::Result<Option<Head>> {
    if received.is_empty() {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(received).map_err(malformed)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if received.len() < HEAD_BYTES_MAX => return Ok(None),
        httparse::Status::Partial => return Err(malformed("the head is too large")),
    };
    let code = parsed.code.expect("a complete head has a status");
    let status = StatusCode::from_u16(code).map_err(malformed)?;
    let modern = parsed.version == Some(1);
    let places = places(received, parsed.headers)?;
    let block = received.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(places.len());
    for (name, place) in places {
        headers.append(name, value(&block, place)?);
    }
    let framing = framing(status, &headers, method)?;
    let keep = keeps(&headers, modern) && framing != Framing::UntilClose;
    headers::remove_hop_by_hop(&mut headers);
    Ok(Some(Head {
        status,
        headers,
        framing,
        keep,
    }))
}

/// The names, and where in the buffer the values lie: it cannot be cut while they borrow it.
fn places(
    received: &BytesMut,
    fields: &[httparse::Header<'_>],
) -> io::Result<Vec<(HeaderName, Range<usize>)>> {
    let start = received.as_ptr().addr();
    let place = |field: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(malformed)?;
        // An empty value may lie anywhere.
        let first = match field.value.is_empty() {
            true => 0,
            false => field.value.as_ptr().addr() - start,
        };
        Ok((name, first..first + field.value.len()))
    };
    fields.iter().map(place).collect()
}

fn value(block: &Bytes, place: Range<usize>) -> io::Result<HeaderValue> {
    HeaderValue::from_maybe_shared(block.slice(place)).map_err(malformed)
}

fn malformed(error: impl ToString) -> io::Error {
    let text = format!("the answer is malformed: {}", error.to_string());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// RFC 9112, 6.3.
fn framing(status: StatusCode, headers: &HeaderMap, method: &Method) -> io::Result<Framing> {
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if bodiless || method == Method::HEAD {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        return match coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            true => Ok(Framing::chunked()),
            false => Err(malformed("an unknown transfer encoding")),
        };
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(Framing::UntilClose);
    };
    if lengths.any(|other| other != first) {
        return Err(malformed("two lengths"));
    }
    let text = first.to_str().map_err(malformed)?;
    // Not `parse`, which takes a plus sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("a length that is no number"));
    }
    text.parse().map(Framing::Length).map_err(malformed)
}

fn keeps(headers: &HeaderMap, modern: bool) -> bool {
    let named = |word| headers::lists(headers, &CONNECTION, word);
    match modern {
        true => !named("close"),
        false => named("keep-alive"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, method: Method) -> io::Result<Option<Head>> {
        let mut received = BytesMut::from(text);
        let parsed = parse(&mut received, &method);
        if let Ok(Some(_)) = &parsed {
            assert!(received.is_empty(), "{text:?}");
        }
        parsed
    }

    #[test]
    fn a_head_tells_how_the_body_ends() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
                Framing::Length(7),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing::chunked(),
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Framing::Length(0), true),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n",
                Framing::Length(7),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n",
                Framing::Length(0),
                false,
            ),
        ];
        for (text, framing, keep) in cases {
            let head = parsed(text, Method::GET).unwrap().unwrap();
            assert_eq!((head.framing, head.keep), (framing, keep), "{text:?}");
        }
        let head = parsed(cases[0].0, Method::HEAD).unwrap().unwrap();
        assert_eq!(head.framing, Framing::Length(0));
        assert_eq!(head.headers[CONTENT_LENGTH], "7");
    }

    #[test]
    fn what_is_incomplete_waits_and_what_is_wrong_is_an_error() {
        let whole = "HTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\nEmpty:\r\n\r\n";
        for end in 0..whole.len() {
            assert!(parsed(&whole[..end], Method::GET).unwrap().is_none());
        }
        let head = parsed(whole, Method::GET).unwrap().unwrap();
        assert_eq!(head.headers["x-etcd-index"], "7");
        assert_eq!(head.headers["empty"], "");
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            assert!(parsed(text, Method::GET).is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_arrives_is_survived(fields: Vec<u8>) {
            let _ = parse(&mut BytesMut::from(&fields[..]), &Method::GET);
            let head = [b"HTTP/1.1 200 OK\r\n", &fields[..], b"\r\n\r\n"].concat();
            let _ = parse(&mut BytesMut::from(&head[..]), &Method::GET);
        }
    }
}
