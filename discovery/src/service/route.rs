//! Routes requests by method and path.

use http::Method;

/// A request's meaning, by method and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Home,
    Robots,
    New,
    Health,
    Metrics,
    /// Reads or deletes below a token; the path as received.
    Token(String),
    /// Writes below a token.
    Write {
        token: String,
        /// `None` for the token itself.
        id: Option<String>,
    },
    NotFound,
    MethodNotAllowed,
    /// The path has empty or dotted parts; this is the cleaned one, for a redirect.
    Moved(String),
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Route {
        let Some(decoded) = decode(path) else {
            return Route::NotFound;
        };
        let clean = clean(&decoded);
        if clean != decoded {
            return Route::Moved(encode(&clean));
        }
        match decoded.as_str() {
            "/" => Route::Home,
            "/robots.txt" => Route::Robots,
            "/new" => Route::New,
            "/health" => Route::Health,
            // No token has this form.
            "/metrics" => Route::Metrics,
            _ => below_a_token(method, &decoded),
        }
    }
}

fn below_a_token(method: &Method, path: &str) -> Route {
    let rest = path.trim_start_matches('/');
    let (token, below) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_token(token) {
        return Route::NotFound;
    }
    // Names that begin with `_` belong to the token and are read-only.
    let own = below.starts_with('_');
    let allowed: &[Method] = match below {
        "_config/size" => &[Method::GET],
        "" => &[Method::GET, Method::PUT],
        _ if below.contains('/') => return Route::NotFound,
        _ if own => &[Method::GET],
        _ => &[Method::GET, Method::PUT, Method::DELETE],
    };
    if !allowed.contains(method) {
        return Route::MethodNotAllowed;
    }
    if method == Method::PUT {
        let id = (!below.is_empty()).then(|| encode(below));
        let token = token.to_owned();
        return Route::Write { token, id };
    }
    match below.is_empty() {
        true => Route::Token(token.to_owned()),
        false => Route::Token(format!("{token}/{}", encode(below))),
    }
}

/// 32 lower-case hexadecimal digits.
fn is_token(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Percent-decodes a path; `None` when it is not UTF-8, or has control characters.
fn decode(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = path.get(at..at + 2)?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        at += 2;
    }
    let decoded = String::from_utf8(decoded).ok()?;
    let sane = decoded.starts_with('/') && !decoded.contains(char::is_control);
    sane.then_some(decoded)
}

/// Percent-encodes every character that may not occur in a path.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Go's `path.Clean`, which keeps a final slash.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let mut clean: String = parts.iter().flat_map(|part| ["/", part]).collect();
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "8ded81b7c0afdc84fa45690299facd94";

    fn route(method: &str, path: &str) -> Route {
        let method: Method = method.parse().expect("a method");
        Route::of(&method, &path.replace("<T>", TOKEN))
    }

    // The answers of Debian's etcd-discovery.
    #[test]
    fn routes_are_those_of_the_original() {
        assert_eq!(route("POST", "/new"), Route::New);
        assert_eq!(route("GET", "/new/"), Route::NotFound);
        assert_eq!(route("GET", "/metrics"), Route::Metrics);
        assert_eq!(route("PUT", "/metrics/abc"), Route::NotFound);
        assert_eq!(route("GET", "/"), Route::Home);
        assert_eq!(route("GET", "/<T>"), Route::Token(TOKEN.to_owned()));
        assert_eq!(route("GET", "/<T>/"), Route::Token(TOKEN.to_owned()));
        assert_eq!(
            route("GET", "/<T>/_config/size"),
            Route::Token(format!("{TOKEN}/_config/size"))
        );
        assert_eq!(
            route("DELETE", "/<T>/abc"),
            Route::Token(format!("{TOKEN}/abc"))
        );
        let id = Some("abc".to_owned());
        let token = TOKEN.to_owned();
        assert_eq!(route("PUT", "/<T>/abc"), Route::Write { token, id });
        for (method, path) in [
            ("PUT", "/<T>/_config/size"),
            ("DELETE", "/<T>"),
            ("HEAD", "/<T>"),
            ("POST", "/<T>/abc"),
            ("OPTIONS", "/<T>/abc"),
            // A difference: the original lets every client delete the size.
            ("DELETE", "/<T>/_config"),
            ("PUT", "/<T>/_config"),
        ] {
            assert_eq!(
                route(method, path),
                Route::MethodNotAllowed,
                "{method} {path}"
            );
        }
        for path in [
            "/<T>/a/b",
            "/<T>0/a",
            "/nosuch",
            "/<T>/x%2Fy",
            "/<T>/%ff",
            "/<T>/%0a",
            "/%",
        ] {
            assert_eq!(route("GET", path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn odd_paths_are_sent_to_the_clean_one() {
        let moved = |path: &str| Route::Moved(path.replace("<T>", TOKEN));
        assert_eq!(route("GET", "/<T>//x"), moved("/<T>/x"));
        assert_eq!(route("GET", "/<T>/%2e%2e/new"), moved("/new"));
        assert_eq!(route("GET", "//"), moved("/"));
    }
}
