//! The requests that a proxy answers itself.

use http::{Method, Response, StatusCode};

use crate::answers;
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::mode::Mode;

const METRICS: &str = "/metrics";
const CONFIG: &str = "/v2/config/local/proxy";

/// Whether a request with this method and path is answered without a member.
pub(crate) fn is_own(context: &Context, method: &Method, path: &str) -> bool {
    path == METRICS || path == CONFIG || is_forbidden(context, method)
}

/// A read-only proxy forwards GET requests alone.
fn is_forbidden(context: &Context, method: &Method) -> bool {
    context.config.mode == Mode::ReadOnly && method != Method::GET
}

/// `None`: a member is to answer.
pub(crate) fn answer(
    context: &Context,
    method: &Method,
    path: &str,
) -> Option<Response<AnswerBody>> {
    if is_forbidden(context, method) {
        return Some(answers::empty(StatusCode::NOT_IMPLEMENTED));
    }
    match path {
        METRICS => Some(metrics(context)),
        CONFIG if method != Method::GET => Some(answers::only_get()),
        CONFIG => Some(config(context)),
        _ => None,
    }
}

fn metrics(context: &Context) -> Response<AnswerBody> {
    let sharing = context.shared_watches.sharing();
    let text = context.metrics.text(&context.endpoints, sharing);
    answers::with_type(
        StatusCode::OK,
        text,
        "text/plain; version=0.0.4; charset=utf-8",
    )
}

/// The client URLs that are usable, in the form of etcd's proxy.
fn config(context: &Context) -> Response<AnswerBody> {
    let all = context.endpoints.list();
    let urls: Vec<_> = all
        .iter()
        .filter(|endpoint| endpoint.health().is_usable())
        .map(|endpoint| endpoint.url.as_str())
        .collect();
    let body = serde_json::json!({ "endpoints": urls });
    answers::text(StatusCode::OK, format!("{body}\n"))
}
