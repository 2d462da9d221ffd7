//! The proxy's own answers: refusals, and the bodies of its own paths.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::http1::body::AnswerBody;
use crate::http1::headers::LOOP;

/// Why a request has no member's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No member was usable in time; the request was not executed.
    ZeroEndpoints,
    /// A member received the request and did not answer.
    OutcomeUnknown,
    /// A read that no member answered.
    NoAnswer,
    /// This process has no file descriptor for it; it was not executed.
    Crowded,
    /// This proxy has forwarded the request before.
    Loop,
    /// The client left before the end of its request; it does not read the answer.
    Client,
    /// The rest of the request did not arrive in time.
    Late,
}

impl Refusal {
    /// The label of `etcd_proxy_dropped_total`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Refusal::ZeroEndpoints => "zero_endpoints",
            Refusal::Crowded => "too_many_connections",
            Refusal::OutcomeUnknown | Refusal::NoAnswer => "failed_getting_response",
            Refusal::Loop => "loop",
            Refusal::Client | Refusal::Late => "failed_sending_request",
        }
    }

    /// The answer. `keys` gives failures the form of the v2 keys API; `id` is this proxy's.
    pub(crate) fn response(self, keys: bool, id: &HeaderValue) -> Response<AnswerBody> {
        match self {
            Refusal::ZeroEndpoints => message(
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy: zero endpoints currently available",
            ),
            Refusal::Crowded => message(
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy: too many requests wait for members; nothing was done. Use more connections \
                 for waits, or raise the proxy's limit of open files (nofile)",
            ),
            Refusal::OutcomeUnknown => failure(
                keys,
                "proxy: the connection to the member was lost after the request was sent; \
                 whether it was executed is unknown",
            ),
            Refusal::NoAnswer => failure(keys, "proxy: no member answered in time"),
            Refusal::Loop => {
                let mut response = message(
                    StatusCode::LOOP_DETECTED,
                    "proxy: this request has been here before; \
                     a member advertises a client URL that leads to a proxy",
                );
                response.headers_mut().insert(LOOP, id.clone());
                response
            }
            Refusal::Client => message(StatusCode::BAD_REQUEST, "proxy: the request is incomplete"),
            Refusal::Late => message(
                StatusCode::REQUEST_TIMEOUT,
                "proxy: the rest of the request did not come within 60 s",
            ),
        }
    }
}

/// 500 and, for keys, etcd's error 300, which is a member's own answer for an unknown outcome.
/// Clients of etcd 2's age give up at once on 502, 503 and 504.
fn failure(keys: bool, cause: &str) -> Response<AnswerBody> {
    if !keys {
        return message(StatusCode::INTERNAL_SERVER_ERROR, cause);
    }
    let body = serde_json::json!({
        "errorCode": 300, "message": "Raft Internal Error", "cause": cause, "index": 0,
    });
    let body = format!("{body}\n");
    json(StatusCode::INTERNAL_SERVER_ERROR, body)
}

fn message(status: StatusCode, text: &str) -> Response<AnswerBody> {
    json(status, serde_json::json!({ "message": text }).to_string())
}

fn json(status: StatusCode, body: String) -> Response<AnswerBody> {
    with_type(status, body, "application/json")
}

/// Plain text, in the form of Go's `http.Error`.
pub(crate) fn text(status: StatusCode, body: String) -> Response<AnswerBody> {
    with_type(status, body, "text/plain; charset=utf-8")
}

/// A body of this content type.
pub(crate) fn with_type(
    status: StatusCode,
    body: String,
    content_type: &'static str,
) -> Response<AnswerBody> {
    let mut response = empty(status);
    *response.body_mut() = AnswerBody::Whole(Bytes::from(body));
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A status without a body.
pub(crate) fn empty(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// 431. A member would answer the same, and close its connection.
pub(crate) fn too_large() -> Response<AnswerBody> {
    empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
}

/// 503, for a request whose body cannot be buffered.
pub(crate) fn crowded() -> Response<AnswerBody> {
    message(
        StatusCode::SERVICE_UNAVAILABLE,
        "proxy: too much is held of requests that are not answered; nothing was done, try again",
    )
}

/// 405, for paths that allow GET alone.
pub(crate) fn only_get() -> Response<AnswerBody> {
    let text = "Method Not Allowed\n".to_owned();
    let mut response = self::text(StatusCode::METHOD_NOT_ALLOWED, text);
    let get = HeaderValue::from_static("GET");
    response.headers_mut().insert(ALLOW, get);
    response
}
