//! Answers in the form that Go's net/http gives them, which scripts have come to expect.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::edge::gateway;

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// `http.Error`: the text, a line feed, and no guessing of its type.
pub(in crate::edge) fn plain(status: StatusCode, text: &str) -> Response {
    let headers = [
        (CONTENT_TYPE, PLAIN_TEXT),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, format!("{text}\n")).into_response()
}

/// Plain text of a handler that names no type.
pub(super) fn text(body: String) -> Response {
    ([(CONTENT_TYPE, PLAIN_TEXT)], body).into_response()
}

/// JSON as `encoding/json` types it.
pub(super) fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Any other method is refused, HEAD included, as etcd's `allowMethod` does.
#[expect(
    clippy::result_large_err,
    reason = "the error is the response, sent at once"
)]
pub(in crate::edge) fn only(allowed: &Method, method: &Method) -> Result<(), Response> {
    if method == allowed {
        return Ok(());
    }
    let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allow = HeaderValue::from_str(allowed.as_str()).expect("a method is a token");
    refused.headers_mut().insert(ALLOW, allow);
    Err(refused)
}

/// `http.NotFound`.
pub(in crate::edge) fn not_found_page() -> Response {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}

/// `http.NotFound`, in the words of whoever is responsible for the path.
pub async fn not_found(uri: Uri) -> Response {
    let text = match gateway::owns(uri.path()) {
        true => "Not Found",
        false => "404 page not found",
    };
    plain(StatusCode::NOT_FOUND, text)
}

/// Lets pages of any origin call the client port: etcd's default, `--cors '*'`. Where origins are listed
/// the port mends it ([`keelson_port::Access`]). A preflight is answered here, whatever the path. For `axum::middleware::from_fn`.
pub async fn cors(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else {
        next.run(request).await
    };
    allow_any_origin(response.headers_mut());
    response
}

/// The headers with which pages of any origin may read an answer.
pub(in crate::edge) fn allow_any_origin(headers: &mut HeaderMap) {
    keelson_port::allow_origin(headers, HeaderValue::from_static("*"));
}
