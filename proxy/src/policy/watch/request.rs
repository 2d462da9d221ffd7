//! The request of a v2 watch: its query, and the request that resumes it.

use std::borrow::Cow;

use http::Method;
use http::request::Parts;
use url::form_urlencoded;

use crate::http1::request::UpstreamRequest;
use crate::http1::request_head::{Origin, RequestHead};
use crate::policy::subject;

/// A watch as its client sent it, kept in little memory so that it can be sent to another member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WatchRequest {
    /// Path and query.
    target: Box<str>,
    /// The header fields as members receive them.
    fields: Box<[u8]>,
    /// All events to come, not one.
    pub(super) stream: bool,
    /// `waitIndex`, and later the index to resume from; 0 is from now on.
    pub(super) since: u64,
}

impl WatchRequest {
    /// `None`: the request is not a watch.
    pub(crate) fn of(parts: &Parts, origin: Origin<'_>) -> Option<WatchRequest> {
        let keys = parts.method == Method::GET && subject::is_keys(parts.uri.path());
        if !keys || !is_watch(parts.uri.query()?) {
            return None;
        }
        let head = RequestHead::of(parts, origin);
        Some(WatchRequest::new(head.target(), head.fields()))
    }

    /// Of path and query, and the header fields as members receive them.
    pub(crate) fn new(target: &str, fields: &[u8]) -> WatchRequest {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        WatchRequest {
            target: Box::from(target),
            fields: Box::from(fields),
            stream: first(query, "stream").is_some_and(|value| is_true(&value)),
            since: first(query, "waitIndex").map_or(0, |value| value.parse().unwrap_or(0)),
        }
    }

    /// The request as its client sent it.
    pub(crate) fn first(&self) -> UpstreamRequest {
        UpstreamRequest::watch(&self.target, &self.fields)
    }

    /// The request that continues the watch at the index that it has reached.
    pub(super) fn resumed(&self) -> UpstreamRequest {
        UpstreamRequest::watch(&target_since(&self.target, self.since), &self.fields)
    }
}

fn target_since(target: &str, since: u64) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let others = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "waitIndex");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(others)
        .append_pair("waitIndex", &since.to_string())
        .finish();
    format!("{path}?{query}")
}

/// Whether a query is that of a watch; it may begin with its question mark.
pub(crate) fn is_watch(query: &str) -> bool {
    let query = query.strip_prefix('?').unwrap_or(query);
    // Most queries need no parsing.
    let may = query.contains("wait") || query.contains('%');
    may && first(query, "wait").is_some_and(|value| is_true(&value))
}

/// The first value of a name; others are ignored.
fn first<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(found, _)| found == name)?;
    Some(value)
}

/// Go's `ParseBool`.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str) -> Parts {
        Request::get(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn waits_are_recognised() {
        let cases = [
            ("/v2/keys/a?wait=true", Some((false, 0))),
            ("/v2/keys/a?waitIndex=7&wait=1", Some((false, 7))),
            ("/v2/keys/a?stream=true&wait=T", Some((true, 0))),
            ("/v2/keys/a?wait=false&wait=true", None),
            ("/v2/keys/a", None),
            ("/v2/members?wait=true", None),
        ];
        let id = http::HeaderValue::from_static("mine");
        let client = "10.0.0.8:1".parse().unwrap();
        for (uri, expected) in cases {
            let watch = WatchRequest::of(&parts(uri), Origin { client, id: &id });
            let found = watch.map(|watch| (watch.stream, watch.since));
            assert_eq!(found, expected, "{uri}");
        }
    }

    #[test]
    fn the_index_is_replaced_and_the_rest_stays() {
        let target = "/v2/keys/a%20b?wait=true&waitIndex=7&recursive=true";
        let expected = "/v2/keys/a%20b?wait=true&recursive=true&waitIndex=9";
        assert_eq!(target_since(target, 9), expected);
    }
}
