//! `/members` on the peer port, for joining members and monitoring scripts.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, Method};
use keelson_core::ClusterId;
use keelson_proto::etcdserverpb;
use serde::Serialize;

use crate::backend::Backend;
use crate::go;

/// etcd's `membership.Member`; the id is a JSON number, and empty fields are omitted.
#[derive(Serialize)]
struct MemberBody<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

impl<'a> From<&'a etcdserverpb::Member> for MemberBody<'a> {
    fn from(member: &'a etcdserverpb::Member) -> MemberBody<'a> {
        MemberBody {
            id: member.id,
            peer_urls: &member.peer_ur_ls,
            is_learner: member.is_learner,
            name: &member.name,
            client_urls: &member.client_ur_ls,
        }
    }
}

pub(super) async fn members<B: Backend>(method: Method, State(backend): State<B>) -> Response {
    let refused = go::only(&Method::GET, &method).err();
    let mut response = refused.unwrap_or_else(|| list(&backend.members()));
    add_cluster_id(&mut response, backend.cluster_id());
    response
}

/// Adds the header with the id of the cluster.
pub(super) fn add_cluster_id(response: &mut Response, cluster: ClusterId) {
    let cluster_id = HeaderValue::from_str(&cluster.to_string());
    let cluster_id = cluster_id.expect("hexadecimal digits are visible");
    response
        .headers_mut()
        .insert(go::X_ETCD_CLUSTER_ID, cluster_id);
}

fn list(members: &[etcdserverpb::Member]) -> Response {
    let mut members: Vec<MemberBody<'_>> = members.iter().map(MemberBody::from).collect();
    members.sort_by_key(|member| member.id);
    let mut body = serde_json::to_string(&members).expect("strings and numbers are JSON");
    // Go's encoder ends a value with a line feed.
    body.push('\n');
    go::json(body)
}
