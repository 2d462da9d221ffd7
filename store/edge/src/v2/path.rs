//! Paths as Go's `net/http` treats them: decoded, and then compared with their clean form. A
//! request with another form is redirected to the clean one (301).

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};

/// Decodes the percent encoding; a plus is unchanged. `None` for an invalid escape.
pub(super) fn decode(path: &str) -> Option<Cow<'_, [u8]>> {
    let path = path.as_bytes();
    if !path.contains(&b'%') {
        return Some(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'%' => hex_pair(rest.next(), rest.next())?,
            byte => byte,
        });
    }
    Some(Cow::Owned(decoded))
}

/// The byte for two hexadecimal digits.
pub(super) fn hex_pair(high: Option<&u8>, low: Option<&u8>) -> Option<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// Whether the path has neither empty segments, except for the last one, nor `.` or `..`.
pub(super) fn is_clean(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/');
    let Some(b"") = segments.next() else {
        return false;
    };
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"" if !is_last => return false,
            b"." | b".." => return false,
            _ => {}
        }
    }
    true
}

/// The clean form. A slash at the end is kept.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut cleaned = Vec::with_capacity(path.len() + 1);
    for segment in &kept {
        cleaned.push(b'/');
        cleaned.extend_from_slice(segment);
    }
    if kept.is_empty() || path.ends_with(b"/") {
        cleaned.push(b'/');
    }
    cleaned
}

/// `http.Redirect` to the clean form of a decoded path.
pub(super) fn redirect(method: &Method, path: &[u8], query: Option<&str>) -> Response {
    let mut location = escape(&clean(path));
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        location.push(b'?');
        location.extend_from_slice(query.as_bytes());
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_maybe_shared(escape_non_ascii(&location)) {
        headers.insert(LOCATION, value);
    }
    if *method == Method::GET || *method == Method::HEAD {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(CONTENT_TYPE, html);
        *response.body_mut() = Body::from(page(&location));
    }
    response
}

/// The HTML page of a redirect.
fn page(location: &[u8]) -> Vec<u8> {
    let mut page = b"<a href=\"".to_vec();
    for byte in location {
        match byte {
            b'&' => page.extend_from_slice(b"&amp;"),
            b'<' => page.extend_from_slice(b"&lt;"),
            b'>' => page.extend_from_slice(b"&gt;"),
            b'"' => page.extend_from_slice(b"&#34;"),
            b'\'' => page.extend_from_slice(b"&#39;"),
            byte => page.push(*byte),
        }
    }
    page.extend_from_slice(b"\">Moved Permanently</a>.\n\n");
    page
}

/// Percent encoding as `url.URL` writes a path.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len() + 8);
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(*byte),
            b'-' | b'_' | b'.' | b'~' => escaped.push(*byte),
            b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' => escaped.push(*byte),
            byte => escaped.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    escaped
}

/// Escapes the non-ASCII bytes of a query for the header; in lower case, as Go does here.
fn escape_non_ascii(location: &[u8]) -> Bytes {
    let mut escaped = Vec::with_capacity(location.len());
    for byte in location {
        match byte.is_ascii() {
            true => escaped.push(*byte),
            false => escaped.extend_from_slice(format!("%{byte:x}").as_bytes()),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decode("/a+b"), Some(Cow::Borrowed(&b"/a+b"[..])));
        assert_eq!(decode("/a%2Fb%fF").as_deref(), Some(&b"/a/b\xff"[..]));
        for bad in ["/%", "/%a", "/%zz", "/%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, cleaned) in [
            ("/", "/"),
            ("/v2/keys", "/v2/keys"),
            ("/v2/keys/", "/v2/keys/"),
            ("/v2/keys/a..b/.c", "/v2/keys/a..b/.c"),
            ("//", "/"),
            ("/v2//keys", "/v2/keys"),
            ("/v2/keys//", "/v2/keys/"),
            ("/v2/keys/..", "/v2"),
            ("/v2/keys/../", "/v2/"),
            ("/v2/keys/a/.", "/v2/keys/a"),
            ("/v2/keys/a/./b/../..//x", "/v2/keys/x"),
            ("/../..", "/"),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
            assert_eq!(is_clean(path.as_bytes()), path == cleaned, "{path}");
        }
    }
}
