//! `/config/local/log`: sets the log level of a member until it restarts.

use axum::body::HttpBody;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;

use super::backend::{LogLevel, TreeBackend};
use super::{Api, BoxError, answer};

pub(super) const PATH: &str = "/config/local/log";

/// The largest body, in bytes.
const BYTES_MAX: usize = 4096;

pub(super) async fn serve<B, R>(inner: &Api<B>, parts: &Parts, body: R) -> Response
where
    B: TreeBackend,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    if parts.method != Method::PUT {
        return answer::not_allowed("PUT");
    }
    let body = inner.bodies.read(body, BYTES_MAX).await.unwrap_or_default();
    let Some(name) = named(&body) else {
        return answer::message(StatusCode::BAD_REQUEST, "Invalid json body");
    };
    let Some(level) = level(&name.to_uppercase()) else {
        let text = format!("Invalid log level {name}");
        return answer::message(StatusCode::BAD_REQUEST, &text);
    };
    inner.backend.set_log_level(level);
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The level in the first JSON value of a body.
fn named(body: &[u8]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    let mut values = serde_json::Deserializer::from_str(&body).into_iter();
    let fields = match values.next()?.ok()? {
        Value::Null => return Some(String::new()),
        Value::Object(fields) => fields,
        _ => return None,
    };
    let mut fields = fields.into_iter();
    match fields.find(|(name, _)| name.eq_ignore_ascii_case("Level")) {
        None | Some((_, Value::Null)) => Some(String::new()),
        Some((_, Value::String(level))) => Some(level),
        Some(_) => None,
    }
}

/// `capnslog.ParseLevel`.
fn level(name: &str) -> Option<LogLevel> {
    Some(match name {
        "CRITICAL" | "C" => LogLevel::Critical,
        "ERROR" | "0" | "E" => LogLevel::Error,
        "WARNING" | "1" | "W" => LogLevel::Warning,
        "NOTICE" | "2" | "N" => LogLevel::Notice,
        "INFO" | "3" | "I" => LogLevel::Info,
        "DEBUG" | "4" | "D" => LogLevel::Debug,
        "TRACE" | "5" | "T" => LogLevel::Trace,
        _ => return None,
    })
}
