//! The size parameter of `/new`.

use bytes::Bytes;
use http::{Method, header, request};

use crate::{Size, SizeError};

/// Go's `FormValue`: the body of a form first, then the query. `None` when it is empty.
pub(super) fn asked_size(parts: &request::Parts, body: &Bytes) -> Option<String> {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| {
        kind.as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    let posted = is_form && parts.method != Method::GET;
    let form: &[u8] = if posted { body } else { &[] };
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let pairs = url::form_urlencoded::parse(form).chain(url::form_urlencoded::parse(query));
    let mut sizes = pairs
        .filter(|(key, _)| key == "size")
        .map(|(_, value)| value);
    sizes
        .next()
        .map(String::from)
        .filter(|size| !size.is_empty())
}

/// A size within bounds. The error is the text of Go's `strconv.Atoi`, or the original service's
/// text and the reason.
pub(super) fn read_size(text: &str) -> Result<Size, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
    }
    let number: i64 = text
        .parse()
        .map_err(|_| format!("strconv.Atoi: parsing {text:?}: value out of range"))?;
    let size = match u32::try_from(number) {
        Ok(count) => count.to_string().parse::<Size>(),
        Err(_) if number < 0 => Err(SizeError::Zero),
        Err(_) => Err(SizeError::TooMany(u32::MAX)),
    };
    size.map_err(|error| format!("Unable to generate token: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_as_go_does_and_then_bounded() {
        assert_eq!(read_size("5").map(Size::get), Ok(5));
        assert_eq!(read_size("+05").map(Size::get), Ok(5));
        let invalid = "strconv.Atoi: parsing \"abc\": invalid syntax";
        assert_eq!(read_size("abc"), Err(invalid.to_owned()));
        let range = "strconv.Atoi: parsing \"99999999999999999999\": value out of range";
        assert_eq!(read_size("99999999999999999999"), Err(range.to_owned()));
        for text in ["0", "-1", "100", "4294967296"] {
            let message = read_size(text).expect_err(text);
            assert!(
                message.starts_with("Unable to generate token: "),
                "{message}"
            );
        }
    }
}
