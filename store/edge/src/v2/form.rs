//! Queries and urlencoded bodies, by the rules of Go's `ParseForm`.
//!
//! Only the parameters of the keys API are kept, with the first value of each; the body is added
//! before the query, so that it takes precedence. Since Go 1.17, and so in Debian's etcd 3.4 and
//! here, a semicolon is an error. Go 1.6, with which etcd 2.3 was built, treated it as an
//! ampersand and so silently cut a value in two; client libraries escape it.

use std::borrow::Cow;

use super::path::hex_pair;

/// The parameters of the keys API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Value,
    Ttl,
    Dir,
    Recursive,
    Sorted,
    Quorum,
    Stream,
    Wait,
    WaitIndex,
    PrevIndex,
    PrevValue,
    PrevExist,
    Refresh,
    NoValueOnSuccess,
}

const FIELDS: usize = Field::NoValueOnSuccess as usize + 1;

impl Field {
    fn named(name: &[u8]) -> Option<Field> {
        Some(match name {
            b"value" => Field::Value,
            b"ttl" => Field::Ttl,
            b"dir" => Field::Dir,
            b"recursive" => Field::Recursive,
            b"sorted" => Field::Sorted,
            b"quorum" => Field::Quorum,
            b"stream" => Field::Stream,
            b"wait" => Field::Wait,
            b"waitIndex" => Field::WaitIndex,
            b"prevIndex" => Field::PrevIndex,
            b"prevValue" => Field::PrevValue,
            b"prevExist" => Field::PrevExist,
            b"refresh" => Field::Refresh,
            b"noValueOnSuccess" => Field::NoValueOnSuccess,
            _ => return None,
        })
    }
}

/// Why a form was refused, with Go's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    /// A percent sign without two hexadecimal digits, and the text there.
    #[error("invalid URL escape {}", quote(.0))]
    Escape(Vec<u8>),
    /// A semicolon.
    #[error("invalid semicolon separator in query")]
    Semicolon,
    /// An error in the content type.
    #[error("{0}")]
    MediaType(&'static str),
    /// The body exceeds this member's limit.
    #[error("http: POST too large")]
    TooLarge,
    /// The body ended early.
    #[error("unexpected EOF")]
    Broken,
}

/// The values of a form.
#[derive(Default)]
pub(super) struct Form<'a> {
    values: [Option<Cow<'a, [u8]>>; FIELDS],
}

impl<'a> Form<'a> {
    /// Adds the parameters in `text` that have no value yet.
    pub(super) fn add(&mut self, text: &'a [u8]) -> Result<(), FormError> {
        let mut first_error = None;
        for pair in text.split(|byte| *byte == b'&') {
            match self.add_pair(pair) {
                Ok(()) => {}
                // This error takes precedence over all others.
                Err(FormError::Semicolon) => return Err(FormError::Semicolon),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn add_pair(&mut self, pair: &'a [u8]) -> Result<(), FormError> {
        if pair.contains(&b';') {
            return Err(FormError::Semicolon);
        }
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        let name = unescape(name)?;
        let value = unescape(value)?;
        if let Some(field) = Field::named(&name) {
            self.values[field as usize].get_or_insert(value);
        }
        Ok(())
    }

    /// The value of a parameter, if it is present.
    pub(super) fn value(&self, field: Field) -> Option<&[u8]> {
        self.values[field as usize].as_deref()
    }

    /// Removes the value of a parameter.
    pub(super) fn take(&mut self, field: Field) -> Option<Cow<'a, [u8]>> {
        self.values[field as usize].take()
    }
}

/// Decodes percent encoding, and plus signs as blanks.
fn unescape(text: &[u8]) -> Result<Cow<'_, [u8]>, FormError> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let (decoded, taken) = match byte {
            b'+' => (b' ', 1),
            b'%' => match hex_pair(text.get(at + 1), text.get(at + 2)) {
                Some(byte) => (byte, 3),
                None => {
                    let end = text.len().min(at + 3);
                    return Err(FormError::Escape(text[at..end].to_vec()));
                }
            },
            byte => (byte, 1),
        };
        plain.push(decoded);
        at += taken;
    }
    Ok(Cow::Owned(plain))
}

/// `strconv.Quote`.
fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                '\x07' => quoted.push_str("\\a"),
                '\x08' => quoted.push_str("\\b"),
                '\x0b' => quoted.push_str("\\v"),
                '\x0c' => quoted.push_str("\\f"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                control if control.is_ascii_control() => {
                    quoted.push_str(&format!("\\x{:02x}", u32::from(control)));
                }
                character => quoted.push(character),
            }
        }
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(body: &'a str, query: &'a str) -> Result<Form<'a>, String> {
        let mut form = Form::default();
        for text in [body, query] {
            form.add(text.as_bytes())
                .map_err(|error| error.to_string())?;
        }
        Ok(form)
    }

    #[test]
    fn the_first_value_counts_and_the_body_is_first() {
        let form = parse("value=&value=b2", "value=q&ttl=1&consistent=true&wait").unwrap();
        assert_eq!(form.value(Field::Value), Some(&b""[..]));
        assert_eq!(form.value(Field::Ttl), Some(&b"1"[..]));
        assert_eq!(form.value(Field::Wait), Some(&b""[..]));
        assert_eq!(form.value(Field::Dir), None);
    }

    #[test]
    fn names_and_values_are_unescaped() {
        let form = parse("v%61lue=a+b%20c%3d&&=x&", "").unwrap();
        assert_eq!(form.value(Field::Value), Some(&b"a b c="[..]));
    }

    #[test]
    fn errors_are_gos() {
        for (text, expected) in [
            ("value=%zz", r#"invalid URL escape "%zz""#),
            ("value=%", r#"invalid URL escape "%""#),
            ("value=a%\"x", r#"invalid URL escape "%\"x""#),
            ("value=%\n\u{1}", r#"invalid URL escape "%\n\x01""#),
            ("value=%\u{e9}", "invalid URL escape \"%\u{e9}\""),
            ("%q=%zz", r#"invalid URL escape "%q""#),
            ("a=%zz&b;c", "invalid semicolon separator in query"),
            ("b;c&a=%zz", "invalid semicolon separator in query"),
        ] {
            assert_eq!(parse(text, "").err().unwrap(), expected, "{text}");
        }
        let both = parse("value=%aq", "value=q;x").err().unwrap();
        assert_eq!(both, r#"invalid URL escape "%aq""#);
    }
}
