//! The paths that a proxy answers itself.

use http::{Method, Response, StatusCode};

use crate::answers;
use crate::body::AnswerBody;
use crate::endpoint::Standing;
use crate::proxy::Proxy;

const METRICS: &str = "/metrics";
const CONFIG: &str = "/v2/config/local/proxy";

/// Whether it is one of them.
pub(crate) fn is_own(path: &str) -> bool {
    path == METRICS || path == CONFIG
}

/// `None`: some member's.
pub(crate) fn answer(proxy: &Proxy, method: &Method, path: &str) -> Option<Response<AnswerBody>> {
    match path {
        METRICS => Some(metrics(proxy)),
        CONFIG if method != Method::GET => Some(answers::only_get()),
        CONFIG => Some(config(proxy)),
        _ => None,
    }
}

fn metrics(proxy: &Proxy) -> Response<AnswerBody> {
    let text = proxy.metrics.text(&proxy.endpoints);
    answers::with_type(
        StatusCode::OK,
        text,
        "text/plain; version=0.0.4; charset=utf-8",
    )
}

/// Those that can be asked, as etcd has it.
fn config(proxy: &Proxy) -> Response<AnswerBody> {
    let all = proxy.endpoints.list();
    let up = |standing| matches!(standing, Standing::Well | Standing::Sick);
    let urls: Vec<_> = all
        .iter()
        .filter(|endpoint| up(endpoint.standing()))
        .map(|endpoint| endpoint.url.as_str())
        .collect();
    let body = serde_json::json!({ "endpoints": urls });
    answers::text(StatusCode::OK, format!("{body}\n"))
}
