//! A request in JSON becomes a call of the gRPC services.

use axum::extract::Request;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use http_body_util::Full;
use hyper::body::Body as HttpBody;
use tokio::time;
use tonic::Status;
use tonic::body::Body;

use super::requests::JsonRequests;
use super::room::TextShare;
use super::{BODY_TIMEOUT, Calls, JsonRequest, json, text};
use crate::Error;

/// The start of the HTTP headers that are gRPC metadata.
const METADATA: &str = "grpc-metadata-";

/// The metadata with the token of an authenticated user.
static TOKEN: HeaderName = HeaderName::from_static("token");

/// The header for a call's timeout, which gRPC and the gateway have in common.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The length of a gRPC frame's prefix, in bytes.
const PREFIX_BYTES: usize = 5;

/// A call with the one message of the request.
///
/// # Errors
/// The body is malformed, too large, or late, or there is no room for it.
pub(super) async fn whole<C: Calls, Q: JsonRequest>(
    calls: &C,
    method: &'static str,
    request: Request,
) -> Result<http::Request<Body>, Status> {
    let message_bytes_max = calls.message_bytes_max(method);
    let (head, body) = request.into_parts();
    let mut share = calls.json_room().share();
    let text = read(body, text_bytes_max(message_bytes_max), &mut share);
    let text = time::timeout(BODY_TIMEOUT, text).await;
    let text = text.map_err(|_| late())??;
    let message = share.hold(frame::<Q>(&text, message_bytes_max)?);
    Ok(call(method, &head.headers, Body::new(Full::new(message))))
}

/// A call with the messages of the request, as they arrive.
///
/// # Errors
/// The first message is malformed or too large, or there is no room for it. As in etcd, a later one
/// ends the requests.
pub(super) async fn streamed<C: Calls, Q: JsonRequest>(
    calls: &C,
    method: &'static str,
    request: Request,
) -> Result<http::Request<Body>, Status> {
    let (head, body) = request.into_parts();
    let share = calls.json_room().share();
    let begun = JsonRequests::<Q>::begin(body, calls.message_bytes_max(method), share);
    let requests = time::timeout(BODY_TIMEOUT, begun).await;
    let requests = requests.map_err(|_| late())??;
    Ok(call(method, &head.headers, Body::new(requests)))
}

/// The limit of a message's text. Base64 expands three bytes to four, and field names and white
/// space need room.
pub(crate) fn text_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_mul(2)
}

/// Parses a message, and encodes it as a frame of gRPC.
///
/// # Errors
/// It is malformed or too large.
pub(super) fn frame<Q: JsonRequest>(text: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    let message: Q = json::message(text).map_err(Status::invalid_argument)?;
    let bytes = message.encoded_len();
    if bytes_max < bytes {
        return Err(too_large(&bytes.to_string(), bytes_max));
    }
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(bytes).map_err(|_| too_large("more", bytes_max))?);
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

/// The error of etcd's gRPC server for a message that is too large.
pub(super) fn too_large(found: &str, bytes_max: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {bytes_max})"
    ))
}

/// Reads a body, and takes room for it as it arrives.
async fn read(
    body: axum::body::Body,
    bytes_max: usize,
    share: &mut TextShare,
) -> Result<BytesMut, Status> {
    // Refused before a client that waits for "100 Continue" has sent it.
    if u64::try_from(bytes_max).is_ok_and(|max| max < body.size_hint().lower()) {
        return Err(too_large("more", bytes_max));
    }
    let mut body = body.into_data_stream();
    let mut text = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Status::cancelled(error.to_string()))?;
        let bytes = text.len() + piece.len();
        if bytes_max < bytes {
            return Err(too_large("more", bytes_max));
        }
        if !share.fit_in_time(bytes).await {
            return Err(Error::TooManyRequests.into());
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

pub(super) fn late() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// A call of gRPC.
fn call(method: &'static str, headers: &HeaderMap, body: Body) -> http::Request<Body> {
    let mut call = http::Request::new(body);
    *call.method_mut() = Method::POST;
    *call.version_mut() = Version::HTTP_2;
    *call.uri_mut() = Uri::from_static(method);
    *call.headers_mut() = metadata(headers);
    call
}

/// The metadata of a call, as grpc-gateway derives it: `Grpc-Metadata-Hasleader` becomes
/// `hasleader`. The token in `Authorization`, with or without `Bearer`, becomes `token`, by which
/// the services find it.
pub(super) fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let own = name.as_str().strip_prefix(METADATA);
        // gRPC reserves the names of its own headers.
        let own = own.filter(|own| !own.starts_with("grpc-"));
        if let Some(Ok(own)) = own.map(|own| HeaderName::from_bytes(own.as_bytes())) {
            metadata.append(own, value.clone());
        }
    }
    if let Some(timeout) = headers.get(&GRPC_TIMEOUT) {
        metadata.insert(GRPC_TIMEOUT.clone(), timeout.clone());
    }
    if let Some(token) = token(headers) {
        metadata.entry(TOKEN.clone()).or_insert(token);
    }
    metadata
}

fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = text(headers, AUTHORIZATION.as_str())?.trim();
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        _ => value,
    };
    HeaderValue::from_str(token).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_with_and_without_its_scheme() {
        for (name, value, expected) in [
            ("authorization", "abc.7", Some("abc.7")),
            ("authorization", "Bearer abc.7", Some("abc.7")),
            ("authorization", "bearer  abc.7", Some("abc.7")),
            ("authorization", "Basic YTpi", Some("Basic YTpi")),
            ("grpc-metadata-token", "abc.7", Some("abc.7")),
            ("x-token", "abc.7", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            let found = metadata(&headers);
            let found = found.get("token").map(|token| token.to_str().unwrap());
            assert_eq!(found, expected, "{name}: {value}");
        }
    }

    #[test]
    fn metadata_of_the_gateway_is_metadata_of_the_call() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("grpc-timeout", "5S"),
            ("content-type", "application/json"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let metadata = metadata(&headers);
        assert_eq!(metadata.len(), 2, "{metadata:?}");
        assert_eq!(metadata["hasleader"], "true");
        assert_eq!(metadata["grpc-timeout"], "5S");
    }
}
