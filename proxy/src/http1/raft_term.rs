//! The Raft term of an answer: in the head for the v2 API, in the body for the JSON gateway.

mod filter;

use std::sync::Arc;

use bytes::BytesMut;

pub(crate) use self::filter::TermFilter;
use crate::http1::client::{Decoded, Framing};
use crate::http1::exchange::Reply;
use crate::policy::mark::Mark;

/// The header of a response is its first field; its other fields are numbers.
const HEADER_BYTES_MAX: usize = 512;

/// What is received of a chunked body before the header counts as missing: chunks may be small.
const CHUNKED_BYTES_MAX: usize = 4 * HEADER_BYTES_MAX;

/// The name of the field in the header of a response, and what precedes its digits.
const FIELD: &[u8] = b"\"raft_term\":\"";

impl Reply {
    /// The term in an answer of the JSON gateway; `None`: it has none.
    pub(crate) async fn gateway_term(&mut self) -> Option<u64> {
        loop {
            let (beginning, over) = self.beginning();
            if let Some(digits) = digits(&beginning) {
                return std::str::from_utf8(&beginning[digits]).ok()?.parse().ok();
            }
            if over {
                return None;
            }
            // The error comes again with the body.
            self.connection.more().await.ok()?;
        }
    }

    /// The beginning of the body as far as it was received, and whether no more of it matters.
    fn beginning(&self) -> (BytesMut, bool) {
        let received = &self.connection.received;
        let framing = self.head.framing;
        if let Framing::Length(length) = framing {
            let needed = length.min(HEADER_BYTES_MAX as u64) as usize;
            let part = &received[..received.len().min(needed)];
            return (BytesMut::from(part), part.len() == needed);
        }
        let mut framing = framing;
        let mut rest = BytesMut::from(&received[..received.len().min(CHUNKED_BYTES_MAX)]);
        let mut over = CHUNKED_BYTES_MAX <= received.len();
        let mut beginning = BytesMut::new();
        loop {
            match framing.decode(&mut rest) {
                Ok(Decoded::Part(part)) => beginning.extend_from_slice(&part),
                Ok(Decoded::Starved) => break,
                Ok(Decoded::End) | Err(_) => {
                    over = true;
                    break;
                }
            }
        }
        over |= HEADER_BYTES_MAX <= beginning.len();
        beginning.truncate(HEADER_BYTES_MAX);
        (beginning, over)
    }

    /// Whether the length of the body is stated.
    pub(crate) fn has_length(&self) -> bool {
        matches!(self.head.framing, Framing::Length(_))
    }

    /// Corrects the terms of the body while it passes, if its length is not stated.
    pub(crate) fn correct_terms(&mut self, mark: &Arc<Mark>) {
        if !self.has_length() {
            self.terms = Some(Box::new(TermFilter::new(mark)));
        }
    }

    /// Sets the term in place of a lower one. `gateway`: it is the JSON gateway's answer.
    pub(crate) fn set_raft_term(&mut self, gateway: bool, term: u64) {
        let term = term.to_string();
        if !gateway {
            return self.head.set_raft_term(&term);
        }
        let Framing::Length(length) = self.head.framing else {
            return;
        };
        let Some(digits) = digits(&self.connection.received) else {
            return;
        };
        let length = length + term.len() as u64 - digits.len() as u64;
        self.head.set_length(length);
        let body = &self.connection.received;
        let (before, after) = (&body[..digits.start], &body[digits.end..]);
        let changed = [before, term.as_bytes(), after].concat();
        self.connection.received = BytesMut::from(&changed[..]);
    }
}

/// Where the digits of the term are.
fn digits(body: &[u8]) -> Option<std::ops::Range<usize>> {
    let beginning = &body[..body.len().min(HEADER_BYTES_MAX)];
    let start = find(beginning)? + FIELD.len();
    let length = beginning[start..]
        .iter()
        .position(|byte| !byte.is_ascii_digit())?;
    (0 < length).then_some(start..start + length)
}

/// Where the field begins.
fn find(body: &[u8]) -> Option<usize> {
    body.windows(FIELD.len()).position(|part| part == FIELD)
}
