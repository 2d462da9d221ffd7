//! The terms in a body that is sent in chunks: a long answer, or a stream of messages.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{FIELD, HEADER_BYTES_MAX, find};
use crate::policy::mark::Mark;

/// The beginning of each message of a stream.
const STREAM: &[u8] = b"{\"result\"";

/// The digits of the highest term.
const DIGITS_MAX: usize = 20;

/// Sets the highest term in place of lower ones. The field cannot be a part of a value: values are
/// in base64, and a quotation mark in a name follows a backslash.
pub(crate) struct TermFilter {
    mark: Arc<Mark>,
    /// The end of what was received, which may be a part of the field.
    held: BytesMut,
    passed: usize,
    /// Each message has a header, and not the first one only.
    is_stream: bool,
}

impl TermFilter {
    pub(super) fn new(mark: &Arc<Mark>) -> TermFilter {
        TermFilter {
            mark: Arc::clone(mark),
            held: BytesMut::new(),
            passed: 0,
            is_stream: false,
        }
    }

    /// Takes a part of the body. Returns what may be sent; it may be nothing.
    pub(crate) fn pass(&mut self, part: Bytes) -> Bytes {
        if self.passed == 0 {
            self.is_stream = part.starts_with(&STREAM[..part.len().min(STREAM.len())]);
        }
        let header_is_over = HEADER_BYTES_MAX <= self.passed && !self.is_stream;
        self.passed += part.len();
        if header_is_over && self.held.is_empty() {
            return part;
        }
        let mut received = std::mem::take(&mut self.held);
        received.extend_from_slice(&part);
        let mut out = BytesMut::with_capacity(received.len() + DIGITS_MAX);
        let mut rest = &received[..];
        while let Some(at) = find(rest) {
            let start = at + FIELD.len();
            let digits = rest[start..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            let end = start + digits.count();
            if end == rest.len() && end - start <= DIGITS_MAX {
                out.extend_from_slice(&rest[..at]);
                self.held = BytesMut::from(&rest[at..]);
                return out.freeze();
            }
            out.extend_from_slice(&rest[..start]);
            self.put_term(&mut out, &rest[start..end]);
            rest = &rest[end..];
        }
        let held = (1..FIELD.len())
            .rev()
            .find(|length| rest.ends_with(&FIELD[..*length]));
        let (sent, held) = rest.split_at(rest.len() - held.unwrap_or(0));
        out.extend_from_slice(sent);
        self.held = BytesMut::from(held);
        out.freeze()
    }

    /// The rest at the end of the body.
    pub(crate) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    fn put_term(&self, out: &mut BytesMut, digits: &[u8]) {
        let term = std::str::from_utf8(digits).ok();
        let term = term.and_then(|text| text.parse::<u64>().ok());
        self.mark.observe(term);
        match term {
            Some(term) if term < self.mark.current() => {
                out.extend_from_slice(self.mark.current().to_string().as_bytes());
            }
            _ => out.extend_from_slice(digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn passed(highest: u64, body: &[u8], mut lengths: impl Iterator<Item = usize>) -> Vec<u8> {
        let mark = Arc::new(Mark::new(Duration::ZERO));
        mark.observe(Some(highest));
        let mut filter = TermFilter::new(&mark);
        let (mut rest, mut out) = (body, vec![]);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(lengths.next().unwrap().clamp(1, rest.len()));
            out.extend_from_slice(&filter.pass(Bytes::copy_from_slice(part)));
            rest = after;
        }
        out.extend_from_slice(&filter.finish());
        out
    }

    fn message(term: &str, size: usize) -> String {
        let value = "x".repeat(size);
        format!(r#"{{"result":{{"header":{{"raft_term":"{term}"}},"value":"{value}"}}}}"#)
    }

    proptest! {
        #[test]
        fn terms_do_not_decrease_however_the_body_is_divided(
            terms in prop::collection::vec((0..2000_u64, 0..700_usize), 1..9),
            lengths in prop::collection::vec(1..90_usize, 1..9),
        ) {
            let (mut highest, mut sent, mut expected) = (999, String::new(), String::new());
            for (term, size) in terms {
                highest = term.max(highest);
                sent += &message(&term.to_string(), size);
                expected += &message(&highest.to_string(), size);
            }
            let out = passed(999, sent.as_bytes(), lengths.into_iter().cycle());
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }

        #[test]
        fn other_bodies_pass_as_they_are(
            body in "(\"raft_term\":\"[0-9]{0,30}x?|[a-z\"]){0,20}",
            lengths in prop::collection::vec(1..90_usize, 1..9),
        ) {
            // A field that is empty, that has no number, or the highest one.
            let body = body.replace("raft_term\":\"", "raft_term\":\"99999999999999999999");
            let out = passed(u64::MAX, body.as_bytes(), lengths.into_iter().cycle());
            prop_assert_eq!(String::from_utf8(out).unwrap(), body);
        }
    }

    #[test]
    fn of_an_answer_only_the_header_is_read() {
        let header = r#"{"header":{"raft_term":"9"},"kvs":["#;
        let rest = format!(r#"{}"raft_term":"9""#, "x".repeat(2 * HEADER_BYTES_MAX));
        let out = passed(
            10,
            (header.to_owned() + &rest).as_bytes(),
            std::iter::repeat(300),
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            header.replace('9', "10") + &rest
        );
    }
}
