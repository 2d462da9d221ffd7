//! The head of an answer.
//!
//! Most heads go to the client as the member wrote them, so their fields are scanned but not
//! copied. A header map is built on demand.

use std::io;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::http1::client::framing::Framing;
use crate::http1::headers;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 96;

const RAFT_TERM: &str = "x-raft-term";

/// The status line and the header fields of a member's answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) framing: Framing,
    /// Whether the connection may be used again after the body.
    pub(crate) keep: bool,
    /// `X-Etcd-Index`.
    pub(crate) index: Option<u64>,
    /// `X-Raft-Term`.
    pub(crate) raft_term: Option<u64>,
    /// From the status line to the blank line.
    block: Bytes,
    /// It has no field that ends at this hop.
    end_to_end: bool,
}

/// The header fields that matter here.
#[derive(Default)]
struct ResponseFields {
    modern: bool,
    coding: Option<Coding>,
    length: Option<u64>,
    close: bool,
    keep_alive: bool,
    hop_by_hop: bool,
    index: Option<u64>,
    raft_term: Option<u64>,
}

/// A transfer coding.
enum Coding {
    Chunked,
    Unknown,
}

/// Takes a head from `received`; `None`: it is not complete.
pub(crate) fn parse(received: &mut BytesMut, method: &Method) -> io::Result<Option<Head>> {
    if received.is_empty() {
        return Ok(None);
    }
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsing = config.parse_response_with_uninit_headers(&mut parsed, received, &mut fields);
    let length = match parsing.map_err(malformed)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if received.len() < HEAD_BYTES_MAX => return Ok(None),
        httparse::Status::Partial => return Err(malformed("the head is too large")),
    };
    let code = parsed.code.expect("a complete head has a status");
    let status = StatusCode::from_u16(code).map_err(malformed)?;
    let mut found = ResponseFields {
        modern: parsed.version == Some(1),
        ..ResponseFields::default()
    };
    for field in parsed.headers.iter() {
        found.field(field)?;
    }
    let framing = found.framing(status, method)?;
    Ok(Some(Head {
        status,
        framing,
        keep: found.keeps() && framing != Framing::UntilClose,
        index: found.index,
        raft_term: found.raft_term,
        block: received.split_to(length).freeze(),
        end_to_end: found.modern && !found.hop_by_hop,
    }))
}

impl Head {
    /// The index of the state that a read of keys was answered from. A member that refuses a read
    /// without a look at its store (no account, bad parameters) sends 0, which is not its index.
    pub(crate) fn read_at(&self) -> Option<u64> {
        let looked = matches!(self.status, StatusCode::OK | StatusCode::NOT_FOUND);
        let failed = self.status.is_server_error();
        self.index
            .filter(|index| !failed && (looked || *index != 0))
    }

    /// The end-to-end headers.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let parsing = parsed.parse(&self.block);
        debug_assert!(parsing.is_ok(), "it was read before");
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value);
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        headers::remove_hop_by_hop(&mut headers);
        headers
    }

    /// Sets the term in place of a lower one.
    pub(crate) fn set_raft_term(&mut self, term: &str) {
        self.raft_term = term.parse().ok();
        self.set(RAFT_TERM, term);
    }

    /// Sets the length of the body.
    pub(crate) fn set_length(&mut self, length: u64) {
        self.framing = Framing::Length(length);
        self.set("content-length", &length.to_string());
    }

    /// Sets the value of a field that the head has.
    fn set(&mut self, name: &str, value: &str) {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let parsing = parsed.parse(&self.block);
        debug_assert!(parsing.is_ok(), "it was read before");
        let mut named = parsed.headers.iter();
        let Some(field) = named.find(|field| field.name.eq_ignore_ascii_case(name)) else {
            return;
        };
        let start = field.value.as_ptr() as usize - self.block.as_ptr() as usize;
        let (before, after) = (
            &self.block[..start],
            &self.block[start + field.value.len()..],
        );
        self.block = Bytes::from([before, value.as_bytes(), after].concat());
    }

    /// The head as it was received, blank line included, if all its fields are end-to-end and it
    /// has the length of the body.
    pub(crate) fn verbatim(&self) -> Option<&Bytes> {
        let known = matches!(self.framing, Framing::Length(_));
        Some(&self.block).filter(|_| known && self.end_to_end)
    }
}

impl ResponseFields {
    fn field(&mut self, field: &httparse::Header<'_>) -> io::Result<()> {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => {
                let words = field.value.split(|byte| *byte == b',');
                for word in words.map(<[u8]>::trim_ascii) {
                    self.close |= word.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            11 if field.name.eq_ignore_ascii_case(RAFT_TERM) => {
                self.raft_term = length(field.value).ok();
            }
            12 if field.name.eq_ignore_ascii_case("x-etcd-index") => {
                self.index = length(field.value).ok();
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let length = Some(length(field.value)?);
                if self.length.is_some() && self.length != length {
                    return Err(malformed("two lengths"));
                }
                self.length = length;
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                self.coding = Some(match field.value.eq_ignore_ascii_case(b"chunked") {
                    true => Coding::Chunked,
                    false => Coding::Unknown,
                });
            }
            _ => {}
        }
        self.hop_by_hop |= headers::is_hop_by_hop_name(field.name);
        Ok(())
    }

    /// RFC 9112, 6.3.
    fn framing(&self, status: StatusCode, method: &Method) -> io::Result<Framing> {
        let bodiless = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        if bodiless || method == Method::HEAD {
            return Ok(Framing::Length(0));
        }
        // Its framing is faulty: RFC 9112, 6.1.
        if !self.modern && self.coding.is_some() {
            return Err(malformed("a transfer encoding in HTTP/1.0"));
        }
        match (&self.coding, self.length) {
            (Some(Coding::Chunked), _) => Ok(Framing::chunked()),
            (Some(Coding::Unknown), _) => Err(malformed("an unknown transfer encoding")),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::UntilClose),
        }
    }

    fn keeps(&self) -> bool {
        match self.modern {
            true => !self.close,
            false => self.keep_alive,
        }
    }
}

/// Parses a length. It has digits only; `str::parse` would accept a plus sign.
pub(crate) fn length(value: &[u8]) -> io::Result<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(malformed("a length that is no number"));
    }
    let text = std::str::from_utf8(value).map_err(malformed)?;
    text.parse().map_err(malformed)
}

fn malformed(error: impl ToString) -> io::Error {
    let text = format!("the answer is malformed: {}", error.to_string());
    io::Error::new(io::ErrorKind::InvalidData, text)
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
    fn a_head_frames_the_body() {
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
        assert_eq!(head.headers()["content-length"], "7");
    }

    #[test]
    fn what_is_incomplete_waits_and_what_is_wrong_is_an_error() {
        let whole = "HTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\nEmpty:\r\n\r\n";
        for end in 0..whole.len() {
            assert!(parsed(&whole[..end], Method::GET).unwrap().is_none());
        }
        let head = parsed(whole, Method::GET).unwrap().unwrap();
        assert_eq!(head.headers()["x-etcd-index"], "7");
        assert_eq!(head.index, Some(7));
        assert_eq!(head.headers()["empty"], "");
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            assert!(parsed(text, Method::GET).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_transfer_coding_in_http_1_0_is_refused() {
        let text =
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
        assert!(parsed(text, Method::GET).is_err());
    }

    #[test]
    fn only_end_to_end_heads_are_forwarded_verbatim() {
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nDate: x\r\n\r\n";
        let head = parsed(plain, Method::GET).unwrap().unwrap();
        assert_eq!(head.verbatim().unwrap(), plain);
        for text in [
            "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nKEEP-ALIVE: timeout=5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: x\r\nX: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            let head = parsed(text, Method::GET).unwrap().unwrap();
            assert_eq!(head.verbatim(), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_cause_no_panic(fields: Vec<u8>) {
            let _ = parse(&mut BytesMut::from(&fields[..]), &Method::GET);
            let head = [b"HTTP/1.1 200 OK\r\n", &fields[..], b"\r\n\r\n"].concat();
            let _ = parse(&mut BytesMut::from(&head[..]), &Method::GET);
        }
    }
}
