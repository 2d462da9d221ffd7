//! The answers that do not come from the registry, byte for byte those of Go's net/http.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};

use super::metrics::Limit;
use super::registry::Body;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const NOSNIFF: (HeaderName, HeaderValue) = (
    http::header::X_CONTENT_TYPE_OPTIONS,
    HeaderValue::from_static("nosniff"),
);

/// The page to which discovery.etcd.io redirects browsers.
const HOME: &str = "https://coreos.com/docs/cluster-management/setup/cluster-discovery/";

const NO_ROOM: &str = "the discovery service has reached its storage limit";

/// A body of one piece.
pub(super) fn body(text: impl Into<Bytes>) -> Body {
    let full = Full::new(text.into());
    full.map_err(|never| match never {}).boxed_unsync()
}

/// 200 with a text.
pub(super) fn text(text: impl Into<String>) -> Response<Body> {
    let mut answer = Response::new(body(text.into()));
    answer.headers_mut().insert(CONTENT_TYPE, PLAIN);
    answer
}

/// The answer of `/metrics`.
pub(super) fn metrics(text: String) -> Response<Body> {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let mut answer = Response::new(body(text));
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// A text and a newline, as `http.Error` writes them.
pub(super) fn error(status: StatusCode, message: &str) -> Response<Body> {
    let mut answer = text(format!("{message}\n"));
    *answer.status_mut() = status;
    let (name, value) = NOSNIFF;
    answer.headers_mut().insert(name, value);
    answer
}

/// An error in the form of etcd's v2 keys, which clients of a token parse. The code is etcd's for
/// an operation that an administrator does not allow.
pub(super) fn keys_error(status: StatusCode, message: &str, cause: &str) -> Response<Body> {
    let error = serde_json::json!({
        "errorCode": 110, "message": message, "cause": cause, "index": 0,
    });
    let mut answer = Response::new(body(format!("{error}\n")));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// 429, to `/new`.
pub(super) fn too_many(wait: Duration) -> Response<Body> {
    let seconds = wait.as_secs().max(1);
    let message = format!(
        "Unable to generate token: too many requests from your address; try again in {seconds} s"
    );
    let answer = error(StatusCode::TOO_MANY_REQUESTS, &message);
    later(answer, seconds)
}

/// 429, to a write below a token.
pub(super) fn too_many_writes(wait: Duration, token: &str) -> Response<Body> {
    let seconds = wait.as_secs().max(1);
    let message = format!("too many writes from your address; try again in {seconds} s");
    let answer = keys_error(StatusCode::TOO_MANY_REQUESTS, &message, token);
    later(answer, seconds)
}

/// 403: the token has reached its bound.
pub(super) fn full(limit: Limit, token: &str) -> Response<Body> {
    let message = match limit {
        Limit::Entries => "the token has too many entries; make a new one",
        _ => "the token's entries are too large; make a new one",
    };
    keys_error(StatusCode::FORBIDDEN, message, token)
}

/// 503, to `/new`.
pub(super) fn no_room(wait: Duration) -> Response<Body> {
    let seconds = wait.as_secs().max(1);
    let message = format!("Unable to generate token: {NO_ROOM}; try again in {seconds} s");
    later(error(StatusCode::SERVICE_UNAVAILABLE, &message), seconds)
}

/// 503, to a write below a token.
pub(super) fn no_room_below(wait: Duration, token: &str) -> Response<Body> {
    let seconds = wait.as_secs().max(1);
    let message = format!("{NO_ROOM}; try again in {seconds} s");
    let answer = keys_error(StatusCode::SERVICE_UNAVAILABLE, &message, token);
    later(answer, seconds)
}

fn later(mut answer: Response<Body>, seconds: u64) -> Response<Body> {
    answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    answer
}

pub(super) fn robots() -> Response<Body> {
    text("User-agent: *\nDisallow: /")
}

pub(super) fn home() -> Response<Body> {
    moved(HOME)
}

/// 301, with the page Go writes for it.
pub(super) fn moved(location: &str) -> Response<Body> {
    let escaped = location.replace('&', "&amp;").replace('"', "&#34;");
    let escaped = escaped.replace('<', "&lt;").replace('>', "&gt;");
    let page = format!("<a href=\"{escaped}\">Moved Permanently</a>.\n\n");
    let mut answer = Response::new(body(page));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(CONTENT_TYPE, HTML);
    if let Ok(location) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

pub(super) fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

pub(super) fn method_not_allowed() -> Response<Body> {
    let empty = Empty::new().map_err(|never| match never {});
    let mut answer = Response::new(empty.boxed_unsync());
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    answer
}
