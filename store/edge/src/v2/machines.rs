//! `/v2/machines`: the client URLs of the cluster, for clients of etcd 0.4.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use keelson_proto::etcdserverpb::Member;

use super::answer;
use super::backend::TreeBackend;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn serve<B: TreeBackend>(backend: &B, method: &Method) -> Response {
    if *method != Method::GET && *method != Method::HEAD {
        return answer::not_allowed("GET,HEAD");
    }
    let mut response = Response::new(Body::from(machines(backend.members())));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// The list, separated by ", ": etcdctl 0.4 splits it at exactly that.
fn machines(members: Vec<Member>) -> String {
    let urls = members.into_iter().map(|member| member.client_ur_ls);
    let mut urls: Vec<String> = urls.flatten().collect();
    urls.sort_unstable();
    urls.join(", ")
}
