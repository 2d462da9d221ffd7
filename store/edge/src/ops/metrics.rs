//! `/metrics`, in Prometheus's text format.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use keelson_port::metrics::{Exposition, METRICS_CONTENT_TYPE, write_process};

use crate::backend::Backend;
use crate::calls::CallMetrics;

/// Any method is allowed, as by etcd's handler.
pub(super) async fn metrics<B: Backend>(
    State((backend, calls)): State<(B, CallMetrics)>,
) -> Response {
    let mut out = Exposition::default();
    backend.write_metrics(&mut out);
    calls.write(&mut out);
    write_process(&mut out);
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], out.into_text()).into_response()
}
