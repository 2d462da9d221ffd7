//! Bytes as base64.

use std::borrow::Cow;
use std::fmt;

use ::base64::DecodeError;
use ::base64::Engine as _;
use ::base64::alphabet;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// As Go's: what the last symbol has beyond the last byte is ignored.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// How the code of pbjson-build encodes bytes.
pub mod base64 {
    use ::base64::Engine as _;

    /// The bytes as base64, with padding.
    pub fn encode(bytes: impl AsRef<[u8]>) -> String {
        super::STANDARD.encode(bytes)
    }
}

/// Bytes that are parsed from base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesDeserialize<T>(
    /// The bytes.
    pub T,
);

impl<'de, T: From<Vec<u8>>> Deserialize<'de> for BytesDeserialize<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_str(Base64Visitor)?;
        Ok(BytesDeserialize(bytes.into()))
    }
}

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a base64 string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        decode(text).map_err(|byte| E::custom(format!("illegal base64 data at input byte {byte}")))
    }
}

/// Decodes base64; the error is the offset that Go names.
fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let is_line_end = |byte: char| matches!(byte, '\r' | '\n');
    let text = match text.contains(is_line_end) {
        true => Cow::from(text.replace(is_line_end, "")),
        false => Cow::from(text),
    };
    let engine = match text.contains(['-', '_']) {
        true => URL_SAFE,
        false => STANDARD,
    };
    engine.decode(&*text).map_err(|error| match error {
        DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol(offset, _) => offset,
        // The start of the incomplete quantum.
        DecodeError::InvalidLength(length) => length / 4 * 4,
        DecodeError::InvalidPadding => text.find('=').unwrap_or(text.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_base64_is_understood() {
        for (text, expected) in [
            ("", &b""[..]),
            ("Zm9v", b"foo"),
            ("/+8=", b"\xff\xef"),
            ("/+8", b"\xff\xef"),
            ("_-8=", b"\xff\xef"),
            ("_-8", b"\xff\xef"),
            // Python's `encodebytes` ends lines, as Go's decoder expects.
            ("Zm9v\nYmFy\r\n", b"foobar"),
            ("Zm9", b"fo"),
        ] {
            assert_eq!(decode(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    /// The offsets were recorded from etcd 3.4.23.
    #[test]
    fn errors_name_the_offset_that_go_names() {
        for (text, byte) in [
            ("!!", 0),
            ("Zm9v!!", 4),
            ("Zm9vZ", 4),
            ("/+8-", 0),
            ("Zm9v=", 4),
            ("é", 0),
        ] {
            assert_eq!(decode(text), Err(byte), "{text:?}");
        }
    }
}
