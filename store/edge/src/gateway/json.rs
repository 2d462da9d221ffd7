//! JSON of requests: its messages, one after another, and the errors of Go's packages.
//!
//! As in etcd, bytes are base64 of either alphabet, 64-bit integers are strings or numbers, enum
//! values are names or numbers, fields of unknown names are ignored and a null field counts as
//! missing. What follows the only message of a request is ignored.

use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;
use serde_json::Deserializer;

use super::room::SMALL_BYTES;

/// Parses the first value of a text into a message. Without one, the message is empty.
///
/// # Errors
/// A text for the client: that of Go's packages where the cause has one.
pub(super) fn message<Q: DeserializeOwned + Default>(text: &[u8]) -> Result<Q, String> {
    if text.trim_ascii().is_empty() {
        return Ok(Q::default());
    }
    parse(text).map_err(|error| describe(text, &error))
}

fn parse<Q: DeserializeOwned + Default>(text: &[u8]) -> serde_json::Result<Q> {
    let parsed = |text: &[u8]| Q::deserialize(&mut Deserializer::from_slice(text));
    if !text.windows(4).any(|word| word == b"null") {
        return parsed(text);
    }
    if text.trim_ascii_start().starts_with(b"null") {
        return Ok(Q::default());
    }
    let mut text = text.to_vec();
    blank_names_of_nulls(&mut text);
    parsed(&text)
}

/// Replaces the names of null fields with blanks, so that they are unknown, which the parser
/// ignores. A tree of the whole text would take many times its size, in fields that no message has.
fn blank_names_of_nulls(text: &mut [u8]) {
    let mut name = 0..0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let len = string_len(&text[at + 1..]);
                name = at + 1..at + 1 + len;
                at = name.end;
            }
            b'n' if text[at..].starts_with(b"null") => {
                text[name.clone()].fill(b' ');
                name = 0..0;
            }
            b':' => {}
            byte if is_blank(*byte) => {}
            // The last string was no name, or its value is another one.
            _ => name = 0..0,
        }
        at += 1;
    }
}

/// The length of a string behind its first quote, up to its last.
fn string_len(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(text.len())
}

/// The text of Go's `encoding/json` or `encoding/base64` for an error, which scripts compare; the
/// parser's own for those that have none there.
fn describe(text: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    let own = error.to_string();
    if own.starts_with("recursion limit exceeded") {
        return "exceeded max depth".to_owned();
    }
    // These are Go's whole texts, without a place.
    let starts = [
        "illegal base64 ",
        "json: ",
        "invalid character ",
        "unexpected end ",
    ];
    if starts.iter().any(|start| own.starts_with(start)) {
        return own.split(" at line ").next().unwrap_or(&own).to_owned();
    }
    match character(text, error) {
        Some(found) if own.starts_with("expected value") => {
            format!("invalid character {found:?} looking for beginning of value")
        }
        _ => own,
    }
}

/// The character at which the parser stopped.
fn character(text: &[u8], error: &serde_json::Error) -> Option<char> {
    let line = error.line().checked_sub(1)?;
    let line = text.split(|byte| *byte == b'\n').nth(line)?;
    let byte = line.get(error.column().checked_sub(1)?)?;
    Some(char::from(*byte))
}

/// Divides a stream of JSON values, of which each is at most `bytes_max` bytes.
pub(super) struct Values {
    buffer: BytesMut,
    /// The bytes at the start of the buffer that have been scanned.
    scanned: usize,
    /// The objects and lists that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    bytes_max: usize,
}

/// A value is larger than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Values {
    pub(super) fn new(bytes_max: usize) -> Values {
        Values {
            buffer: BytesMut::new(),
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            bytes_max,
        }
    }

    /// Adds bytes of the stream. Call [`Values::next`] until it has no value before the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next complete value, as text.
    ///
    /// # Errors
    /// It is too large, complete or not.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, TooLarge> {
        if self.scanned == 0 {
            let blank = self.buffer.iter().position(|byte| !is_blank(*byte));
            self.buffer.advance(blank.unwrap_or(self.buffer.len()));
        }
        while let Some(byte) = self.buffer.get(self.scanned) {
            let ends = self.scan(*byte);
            self.scanned += 1;
            if ends {
                return self.take().map(Some);
            }
        }
        match self.buffer.len() <= self.bytes_max {
            true => Ok(None),
            false => Err(TooLarge),
        }
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a value has begun, after [`Values::next`] had none.
    pub(super) fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The incomplete value at the end of the stream, if there is one.
    pub(super) fn rest(&mut self) -> Option<BytesMut> {
        let rest = self.buffer.split();
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }

    fn take(&mut self) -> Result<BytesMut, TooLarge> {
        let value = match SMALL_BYTES < self.scanned {
            // The rest is copied: as a part of its buffer it would keep the memory of the value.
            true => {
                let rest = BytesMut::from(&self.buffer[self.scanned..]);
                let mut value = std::mem::replace(&mut self.buffer, rest);
                value.truncate(self.scanned);
                value
            }
            false => self.buffer.split_to(self.scanned),
        };
        self.scanned = 0;
        match value.len() <= self.bytes_max {
            true => Ok(value),
            false => Err(TooLarge),
        }
    }

    /// Scans one byte. Returns whether a value ends with it. A value that is no object and no list
    /// ends with its line: no message is one.
    fn scan(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            b'\n' => return self.depth == 0,
            _ => {}
        }
        false
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::{RangeRequest, TxnRequest};

    use super::*;

    /// Splits a stream that arrives in pieces of that many bytes.
    fn split(stream: &str, piece_bytes: usize) -> Vec<String> {
        let mut values = Values::new(64);
        let mut found = Vec::new();
        for piece in stream.as_bytes().chunks(piece_bytes) {
            values.push(piece);
            while let Some(value) = values.next().unwrap() {
                found.push(value);
            }
        }
        found.extend(values.rest());
        let text = |value: BytesMut| String::from_utf8(value.to_vec()).unwrap();
        found.into_iter().map(text).collect()
    }

    #[test]
    fn values_are_divided_wherever_their_pieces_end() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \r\n\t", &[]),
            ("{}", &["{}"]),
            (
                r#"{"a":{"b":[1]}} {"c":2}"#,
                &[r#"{"a":{"b":[1]}}"#, r#"{"c":2}"#],
            ),
            (r#"{"a":"}\"{"}{}"#, &[r#"{"a":"}\"{"}"#, "{}"]),
            (r#"{"a":"\\"}{}"#, &[r#"{"a":"\\"}"#, "{}"]),
            ("null\n{}", &["null\n", "{}"]),
            ("{}\n{\"a\"", &["{}", "{\"a\""]),
            ("]{}", &["]", "{}"]),
        ];
        for (stream, expected) in cases {
            for piece_bytes in [1, 2, 3, 100] {
                assert_eq!(split(stream, piece_bytes), *expected, "{piece_bytes}");
            }
        }
    }

    #[test]
    fn a_value_over_the_limit_is_refused_before_its_end() {
        let mut values = Values::new(8);
        values.push(b"{}{\"a\":");
        assert_eq!(values.next().unwrap().unwrap(), "{}");
        assert_eq!(values.next(), Ok(None));
        values.push(b"\"....");
        assert_eq!(values.next(), Err(TooLarge));
        let mut values = Values::new(8);
        values.push(b"{\"a\":1234}");
        assert_eq!(values.next(), Err(TooLarge));
    }

    /// The texts were recorded from etcd 3.4.23 and 3.5.1.
    #[test]
    fn malformed_json_has_gos_texts() {
        for (json, expected) in [
            ("{", "unexpected EOF"),
            (r#"{"key":"Zm9v""#, "unexpected EOF"),
            (r#"{"key":"!!"}"#, "illegal base64 data at input byte 0"),
            (r#"{"key":"Zm9v!!"}"#, "illegal base64 data at input byte 4"),
            (r#"{"key":"Zm9vZ"}"#, "illegal base64 data at input byte 4"),
            ("g", "invalid character 'g' looking for beginning of value"),
            (
                r#"{"key":x}"#,
                "invalid character 'x' looking for beginning of value",
            ),
            (
                r#"{"limit":1.5}"#,
                "json: cannot unmarshal number 1.5 into Go value of type int64",
            ),
            (
                r#"{"limit":"x"}"#,
                "invalid character 'x' looking for beginning of value",
            ),
        ] {
            let error = message::<RangeRequest>(json.as_bytes()).unwrap_err();
            assert_eq!(error, expected, "{json}");
        }
    }

    /// Messages below 10,000 levels of objects and lists, in a field that exists.
    fn deep() -> String {
        let (open, close) = (r#"{"success":[{"request_txn":"#, "}]}");
        open.repeat(10_000) + "{}" + &close.repeat(10_000)
    }

    #[test]
    fn deep_messages_are_refused_and_deep_unknown_fields_are_skipped() {
        let whole = deep();
        for json in [&whole, &whole[..whole.len() / 2]] {
            let refused = message::<TxnRequest>(json.as_bytes());
            assert_eq!(refused.unwrap_err(), "exceeded max depth");
        }
        let empty = message::<RangeRequest>(whole.as_bytes());
        assert_eq!(empty.unwrap(), RangeRequest::default());
        let nulls = whole.replace("{}", "null");
        let empty = message::<RangeRequest>(nulls.as_bytes());
        assert_eq!(empty.unwrap(), RangeRequest::default());
    }

    /// One null made a tree of the whole text, of thirty times its size.
    #[test]
    fn null_fields_are_missing_wherever_they_are() {
        for (json, blanked) in [
            (r#"{"key":null}"#, r#"{"   ":null}"#),
            (
                r#"{"a\"b" : null,"c":"null"}"#,
                r#"{"    " : null,"c":"null"}"#,
            ),
            (
                r#"{"a":[null,"b",null],"c":null}"#,
                r#"{"a":[null,"b",null]," ":null}"#,
            ),
            (
                r#"{"a":1,"b":{"null":null},"c\\":null}"#,
                r#"{"a":1,"b":{"    ":null},"   ":null}"#,
            ),
            (r#"{"a":{"x":2},"b":nul,"c"#, r#"{"a":{"x":2},"b":nul,"c"#),
            ("{\"a\n\":\n\tnull", "{\"  \":\n\tnull"),
        ] {
            let mut text = json.as_bytes().to_vec();
            blank_names_of_nulls(&mut text);
            assert_eq!(String::from_utf8_lossy(&text), blanked);
        }
        let txn = message::<TxnRequest>(
            br#"{"compare":null,"success":[{"request_put":null,"request_range":{"key":"Zm9v"}}]}"#,
        );
        assert_eq!(txn.unwrap().success.len(), 1);
        for json in [
            r#"{"key":null,}"#,
            r#"{"key":null "limit":1}"#,
            r#"{"limit":[null]}"#,
        ] {
            assert!(message::<RangeRequest>(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn every_form_of_a_field_is_understood() {
        let expected = RangeRequest {
            key: vec![0xff, 0xef].into(),
            limit: 5,
            sort_order: 2,
            ..RangeRequest::default()
        };
        for json in [
            r#"{"key":"/+8=","limit":"5","sort_order":"DESCEND"}"#,
            r#"{"key":"_-8=","limit":5,"sort_order":2}"#,
            r#"{"key":"_-8","limit":5,"sortOrder":2,"range_end":null}"#,
            r#"{"key":"/+8","limit":"5","sortOrder":"DESCEND","nope":[{}],"rangeEnd":null}garbage"#,
            r#" {"key":"/+8=","limit":"5","sort_order":2} {"key":"Zm9v"}"#,
        ] {
            assert_eq!(message::<RangeRequest>(json.as_bytes()).unwrap(), expected);
        }
        for json in ["", " \n", "{}", "null", " null"] {
            let empty = message::<RangeRequest>(json.as_bytes());
            assert_eq!(empty.unwrap(), RangeRequest::default(), "{json}");
        }
    }
}
