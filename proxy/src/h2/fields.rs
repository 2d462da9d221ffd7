//! The fields of requests, and the rules of HTTP for fields.

use std::time::Duration;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use keelson_port::{grpc_timeout, hpack};

use super::member::is_hop_by_hop;
use super::other;
use crate::http1::headers::PROXIED_BY;

/// The longest path of a call, in bytes. It is a service and a method; members repeat it in errors.
const PATH_BYTES_MAX: usize = 1024;

const FORWARDED_FOR: &[u8] = b"x-forwarded-for";

/// The bytes allowed in names in lower case, and in values (RFC 9110, 5).
const NAME: [bool; 256] = table(false);
const VALUE: [bool; 256] = table(true);

const fn table(of_values: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let one = byte as u8;
        table[byte] = match of_values {
            true => one == b'\t' || 0x20 <= one && one != 0x7f,
            false => is_token(one) && !one.is_ascii_uppercase(),
        };
        byte += 1;
    }
    table
}

const fn is_token(byte: u8) -> bool {
    let mark = matches!(
        byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
    );
    let other_mark = matches!(byte, b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
    mark || other_mark || byte.is_ascii_alphanumeric()
}

/// Whether the bytes are a field name in lower case.
pub(super) fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| NAME[usize::from(*byte)])
}

/// Whether the bytes are a field value (RFC 9113, 8.2.1).
pub(super) fn is_value(bytes: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let apart = space(bytes.first()) || space(bytes.last());
    !apart && bytes.iter().all(|byte| VALUE[usize::from(*byte)])
}

/// Whether a field is connection-specific, which makes a message malformed (RFC 9113, 8.2.2).
fn is_of_connection(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" => true,
        b"transfer-encoding" | b"upgrade" => true,
        b"te" => value != b"trailers",
        _ => false,
    }
}

/// The fields of a request that is being read.
#[derive(Default)]
pub(super) struct Fields {
    /// The field block for a member: `:path`, and the fields that are forwarded.
    block: BytesMut,
    method: Vec<u8>,
    pub(super) path: Vec<u8>,
    authority: Vec<u8>,
    /// The addresses in `x-forwarded-for`.
    forwarded: Vec<u8>,
    grpc: bool,
    /// The `grpc-timeout` of a call.
    pub(super) timeout: Option<Duration>,
    /// The request has passed this proxy before.
    pub(super) passed_before: bool,
    /// The `content-length`.
    pub(super) length: Option<u64>,
    scheme: bool,
    /// A pseudo-header field has come.
    pseudo: bool,
    /// A regular field has come.
    regular: bool,
    malformed: bool,
}

impl Fields {
    pub(super) fn clear(&mut self) {
        let Fields {
            block,
            method,
            path,
            authority,
            forwarded,
            ..
        } = self;
        block.clear();
        for kept in [method, path, authority, forwarded] {
            kept.clear();
        }
        self.grpc = false;
        self.timeout = None;
        self.passed_before = false;
        self.length = None;
        self.scheme = false;
        self.pseudo = false;
        self.regular = false;
        self.malformed = false;
    }

    pub(super) fn add(&mut self, id: &[u8], name: &[u8], value: &[u8], sensitive: bool) {
        // A member may end its connection, which others use too, over what HTTP does not allow.
        self.malformed |= !is_value(value);
        if name.first() == Some(&b':') {
            self.pseudo(name, value);
            return;
        }
        self.regular = true;
        self.malformed |= !is_name(name);
        match name {
            b"content-type" => self.grpc = value.starts_with(b"application/grpc"),
            b"grpc-timeout" => self.timeout = grpc_timeout(value),
            FORWARDED_FOR => {
                self.forwarded.extend_from_slice(value);
                self.forwarded.extend_from_slice(b", ");
                return;
            }
            _ if name == PROXIED_BY.as_str().as_bytes() => self.passed_before |= value == id,
            // Members end connections over one that is wrong.
            b"content-length" => return self.content_length(value),
            // RFC 9113, 8.3.1: where no authority is named.
            b"host" if self.authority.is_empty() => {
                self.authority.extend_from_slice(value);
                return;
            }
            _ if is_hop_by_hop(name) => {
                self.malformed |= is_of_connection(name, value);
                return;
            }
            _ => {}
        }
        hpack::put_field(&mut self.block, name, value, sensitive);
    }

    fn content_length(&mut self, value: &[u8]) {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(value).ok().filter(|_| digits);
        let length = text.and_then(|text| text.parse().ok());
        self.malformed |= length.is_none() || self.length.is_some_and(|one| Some(one) != length);
        self.length = length;
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        self.pseudo = true;
        let place = match name {
            b":method" => &mut self.method,
            b":authority" => &mut self.authority,
            b":path" => {
                self.malformed |=
                    !value.starts_with(b"/") || PathAndQuery::try_from(value).is_err();
                hpack::put_field(&mut self.block, name, value, false);
                &mut self.path
            }
            b":scheme" => {
                self.malformed |= self.regular || self.scheme || value.is_empty();
                self.scheme = true;
                return;
            }
            _ => {
                self.malformed = true;
                return;
            }
        };
        // Each one once, before all regular fields (RFC 9113, 8.3).
        self.malformed |= self.regular || !place.is_empty();
        place.extend_from_slice(value);
    }

    /// The size of the field block, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.block.len()
    }

    pub(super) fn are_well_formed(&self) -> bool {
        let endless = self.is_call() && PATH_BYTES_MAX < self.path.len();
        let all = self.scheme && !self.path.is_empty() && !self.method.is_empty();
        // With these fields CONNECT is malformed (RFC 9113, 8.5).
        !self.malformed && all && !endless && self.method != b"CONNECT"
    }

    /// Whether the fields can be a trailer section (RFC 9113, 8.1).
    pub(super) fn are_trailers(&self) -> bool {
        !self.malformed && !self.pseudo
    }

    pub(super) fn is_call(&self) -> bool {
        self.grpc && self.method == b"POST"
    }

    /// The field block of a call, with the fields that a proxy adds.
    pub(super) fn of_call(&mut self, ip: &str, id: &[u8]) -> bytes::Bytes {
        let block = &mut self.block;
        hpack::put_field(block, b"te", b"trailers", false);
        self.forwarded.extend_from_slice(ip.as_bytes());
        hpack::put_field(block, FORWARDED_FOR, &self.forwarded, false);
        hpack::put_field(block, PROXIED_BY.as_str().as_bytes(), id, false);
        bytes::Bytes::copy_from_slice(block)
    }

    pub(super) fn of_other(&mut self) -> Option<http::request::Parts> {
        if !self.forwarded.is_empty() {
            let forwarded = self.forwarded.strip_suffix(b", ").unwrap_or_default();
            hpack::put_field(&mut self.block, FORWARDED_FOR, forwarded, false);
        }
        other::parts(&self.block, &self.method, &self.authority)
    }
}
