//! Content types, by the rules of Go's `mime.ParseMediaType`.
//!
//! go-etcd sends `application/x-www-form-urlencoded; param=value`: parameters are parsed, checked
//! and ignored.

const URLENCODED: &[u8] = b"application/x-www-form-urlencoded";

/// Whether a body of this type is a form. The error is Go's.
pub(super) fn is_form(content_type: &[u8]) -> Result<bool, &'static str> {
    if content_type == URLENCODED {
        return Ok(true);
    }
    // A missing type counts as "application/octet-stream".
    if content_type.is_empty() {
        return Ok(false);
    }
    let semicolon = content_type.iter().position(|byte| *byte == b';');
    let (kind, parameters) = content_type.split_at(semicolon.unwrap_or(content_type.len()));
    let kind = kind.trim_ascii();
    check_kind(kind)?;
    check_parameters(parameters)?;
    Ok(kind.eq_ignore_ascii_case(URLENCODED))
}

fn check_kind(kind: &[u8]) -> Result<(), &'static str> {
    let (name, rest) = token(kind);
    if name.is_empty() {
        return Err("mime: no media type");
    }
    let subtype = match rest {
        [] => return Ok(()),
        [b'/', subtype @ ..] => subtype,
        _ => return Err("mime: expected slash after first token"),
    };
    match token(subtype) {
        ([], _) => Err("mime: expected token after slash"),
        (_, []) => Ok(()),
        _ => Err("mime: unexpected content after media subtype"),
    }
}

fn check_parameters(mut text: &[u8]) -> Result<(), &'static str> {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        text = text.trim_ascii_start();
        if text.is_empty() || text.trim_ascii() == b";" {
            return Ok(());
        }
        let Some((name, rest)) = parameter(text) else {
            return Err("mime: invalid media parameter");
        };
        let name = name.to_ascii_lowercase();
        if seen.contains(&name) {
            return Err("mime: duplicate parameter name");
        }
        seen.push(name);
        text = rest;
    }
}

/// Parses a parameter (semicolon, name, equals sign, value). Returns the name and the rest.
fn parameter(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b";")?.trim_ascii_start();
    let (name, rest) = token(text);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_ascii_start().strip_prefix(b"=")?;
    let rest = match rest.trim_ascii_start() {
        [b'"', quoted @ ..] => after_quoted(quoted)?,
        rest => match token(rest) {
            ([], _) => return None,
            (_, rest) => rest,
        },
    };
    Some((name, rest))
}

/// The rest after the closing quote.
fn after_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [] | [b'\r' | b'\n', ..] => return None,
            [b'\\', next, rest @ ..] if is_special(*next) => rest,
            [_, rest @ ..] => rest,
        };
    }
}

fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let is_token = |byte: u8| byte.is_ascii_graphic() && !is_special(byte);
    let end = text.iter().position(|byte| !is_token(*byte));
    text.split_at(end.unwrap_or(text.len()))
}

fn is_special(byte: u8) -> bool {
    b"()<>@,;:\\\"/[]?=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_recognised_as_by_etcd() {
        for (content_type, expected) in [
            ("application/x-www-form-urlencoded", Ok(true)),
            ("application/x-www-form-urlencoded; param=value", Ok(true)),
            ("APPLICATION/X-WWW-FORM-URLENCODED;", Ok(true)),
            (
                "application/x-www-form-urlencoded ;charset=\"utf\\\"-8\"",
                Ok(true),
            ),
            ("application/x-www-form-urlencoded; a=b; c=d", Ok(true)),
            ("", Ok(false)),
            ("text/plain", Ok(false)),
            ("multipart/form-data", Ok(false)),
            ("x", Ok(false)),
            ("/", Err("mime: no media type")),
            (";", Err("mime: no media type")),
            ("foo bar", Err("mime: expected slash after first token")),
            ("a/", Err("mime: expected token after slash")),
            (
                "application/x-www-form-urlencoded, text/plain",
                Err("mime: unexpected content after media subtype"),
            ),
            (
                "application/x-www-form-urlencoded; param",
                Err("mime: invalid media parameter"),
            ),
            (
                "application/x-www-form-urlencoded; charset=\"utf-8",
                Err("mime: invalid media parameter"),
            ),
            (
                "application/x-www-form-urlencoded; a=b; A=c",
                Err("mime: duplicate parameter name"),
            ),
        ] {
            assert_eq!(is_form(content_type.as_bytes()), expected, "{content_type}");
        }
    }
}
