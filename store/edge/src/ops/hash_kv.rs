//! `/members/hashkv` on the peer port, as etcd's members query it: HashKV as JSON.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, Method, StatusCode};
use keelson_proto::etcdserverpb::HashKvResponse;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::members;
use crate::backend::Backend;
use crate::go;

/// The largest request, in bytes: any host may send one.
const REQUEST_BYTES_MAX: usize = 1 << 10;

#[derive(Deserialize)]
struct HashKvBody {
    #[serde(default)]
    revision: i64,
}

/// etcd's `ResponseHeader`, as Go's encoder writes it.
#[derive(Serialize)]
struct HeaderBody {
    cluster_id: u64,
    member_id: u64,
    revision: i64,
    raft_term: u64,
}

/// etcd's `HashKVResponse`, likewise.
#[derive(Serialize)]
struct HashKvAnswer {
    header: HeaderBody,
    hash: u32,
    compact_revision: i64,
    hash_revision: i64,
}

impl From<HashKvResponse> for HashKvAnswer {
    fn from(response: HashKvResponse) -> HashKvAnswer {
        let header = response.header.unwrap_or_default();
        HashKvAnswer {
            header: HeaderBody {
                cluster_id: header.cluster_id,
                member_id: header.member_id,
                revision: header.revision,
                raft_term: header.raft_term,
            },
            hash: response.hash,
            compact_revision: response.compact_revision,
            hash_revision: response.hash_revision,
        }
    }
}

/// One hash is computed at a time: it reads all pairs, and any host may request it.
pub(super) fn router<B: Backend>(backend: B) -> Router {
    let turns = Arc::new(Semaphore::new(1));
    let hash = any(hash_kv::<B>).with_state((backend, turns));
    Router::new().route("/members/hashkv", hash)
}

async fn hash_kv<B: Backend>(
    method: Method,
    headers: HeaderMap,
    State((backend, turns)): State<(B, Arc<Semaphore>)>,
    body: Body,
) -> Response {
    let cluster_id = backend.cluster_id();
    let answered = answer(&method, &headers, backend, turns, body).await;
    let mut response = answered.unwrap_or_else(|refused| refused);
    members::add_cluster_id(&mut response, cluster_id);
    response
}

async fn answer<B: Backend>(
    method: &Method,
    headers: &HeaderMap,
    backend: B,
    turns: Arc<Semaphore>,
    body: Body,
) -> Result<Response, Response> {
    go::only(&Method::GET, method)?;
    let named = headers.get(go::X_ETCD_CLUSTER_ID).map(|id| id.as_bytes());
    if named.is_some_and(|id| id != backend.cluster_id().to_string().as_bytes()) {
        return Err(go::plain(
            StatusCode::PRECONDITION_FAILED,
            "cluster ID mismatch",
        ));
    }
    let bad = |text: &str| go::plain(StatusCode::BAD_REQUEST, text);
    let body = to_bytes(body, REQUEST_BYTES_MAX).await;
    let body = body.map_err(|_| bad("error reading body"))?;
    let request: HashKvBody =
        serde_json::from_slice(&body).map_err(|_| bad("error unmarshalling request"))?;
    let busy = |_| go::plain(StatusCode::SERVICE_UNAVAILABLE, "another hash is computed");
    let turn = turns.try_acquire_owned().map_err(busy)?;
    // A task of its own: it keeps its turn until the hash is there, also if the caller leaves.
    let hashing = tokio::spawn(async move {
        let _turn = turn;
        backend.hash_kv(request.revision).await
    });
    let hashed = hashing.await.map_err(|error| {
        let text = error.to_string();
        go::plain(StatusCode::INTERNAL_SERVER_ERROR, &text)
    })?;
    let hash = hashed.map_err(|error| {
        // etcd's texts here are the store's own.
        let text = error.to_string();
        bad(text.strip_prefix("etcdserver: ").unwrap_or(&text))
    })?;
    let body = serde_json::to_string(&HashKvAnswer::from(hash));
    Ok(go::json(body.expect("numbers are JSON")).into_response())
}
