//! The Raft term of an answer: in the head for the v2 API, in the body for the JSON gateway.

use bytes::BytesMut;

use crate::http1::client::Framing;
use crate::http1::exchange::Reply;

/// The header of a response is its first field; its other fields are numbers.
const HEADER_BYTES_MAX: usize = 512;

/// The name of the field in the header of a response, and what precedes its digits.
const FIELD: &[u8] = b"\"raft_term\":\"";

impl Reply {
    /// The term in an answer of the JSON gateway; `None`: it has none.
    pub(crate) async fn gateway_term(&mut self) -> Option<u64> {
        while let Framing::Length(length) = self.head.framing
            && (self.connection.received.len() as u64) < length.min(HEADER_BYTES_MAX as u64)
        {
            // The error comes again with the body.
            self.connection.more().await.ok()?;
        }
        let digits = digits(&self.connection.received)?;
        let text = std::str::from_utf8(&self.connection.received[digits]).ok()?;
        text.parse().ok()
    }

    /// Sets the term in place of a lower one. `gateway`: it is the JSON gateway's answer.
    pub(crate) fn set_raft_term(&mut self, gateway: bool, term: u64) {
        let term = term.to_string();
        if !gateway {
            return self.head.set_raft_term(&term);
        }
        let Some(digits) = digits(&self.connection.received) else {
            return;
        };
        if let Framing::Length(length) = self.head.framing {
            let length = length + term.len() as u64 - digits.len() as u64;
            self.head.set_length(length);
        } else if term.len() != digits.len() {
            return;
        }
        let body = &self.connection.received;
        let (before, after) = (&body[..digits.start], &body[digits.end..]);
        let changed = [before, term.as_bytes(), after].concat();
        self.connection.received = BytesMut::from(&changed[..]);
    }
}

/// Where the digits of the term are.
fn digits(body: &[u8]) -> Option<std::ops::Range<usize>> {
    let beginning = &body[..body.len().min(HEADER_BYTES_MAX)];
    let at = beginning
        .windows(FIELD.len())
        .position(|part| part == FIELD)?;
    let start = at + FIELD.len();
    let length = beginning[start..]
        .iter()
        .position(|byte| !byte.is_ascii_digit())?;
    (0 < length).then_some(start..start + length)
}
