//! Answers in the form of Go's net/http, on which scripts depend.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// The header with the id of the cluster.
pub(super) const X_ETCD_CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// `http.Error`: the text and a line feed, and `nosniff`.
pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    let headers = [
        (CONTENT_TYPE, PLAIN_TEXT),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, format!("{text}\n")).into_response()
}

/// Plain text of a handler that sets no content type.
pub(super) fn text(body: String) -> Response {
    ([(CONTENT_TYPE, PLAIN_TEXT)], body).into_response()
}

/// JSON with the content type of etcd's handlers.
pub(super) fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Refuses any other method, including HEAD, as etcd's `allowMethod` does.
#[expect(
    clippy::result_large_err,
    reason = "the error is the response, sent at once"
)]
pub(super) fn only(allowed: &Method, method: &Method) -> Result<(), Response> {
    if method == allowed {
        return Ok(());
    }
    let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allow = HeaderValue::from_str(allowed.as_str()).expect("a method is a token");
    refused.headers_mut().insert(ALLOW, allow);
    Err(refused)
}

/// `http.NotFound`.
pub(super) fn not_found_page() -> Response {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}

/// Allows pages of any origin to call the client port: etcd's default, `--cors '*'`. With a list
/// of origins the port corrects the headers ([`keelson_port::Access`]). A preflight request is
/// answered here for any path. For `axum::middleware::from_fn`.
pub(super) async fn cors(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else {
        next.run(request).await
    };
    allow_any_origin(response.headers_mut());
    response
}

/// Sets the headers that allow pages of any origin to read an answer.
pub(super) fn allow_any_origin(headers: &mut HeaderMap) {
    keelson_port::allow_origin(headers, HeaderValue::from_static("*"));
}
