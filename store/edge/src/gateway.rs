//! The v3 API as JSON over HTTP, as etcd's grpc-gateway offers it: `POST /v3/kv/range` and so on.
//!
//! A parsed request is served by the same service as over gRPC, so the rules are the same. A
//! difference to grpc-gateway: the error texts for invalid JSON are those of serde_json.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use keelson_proto::etcdserverpb::cluster_server::Cluster as _;
use keelson_proto::etcdserverpb::kv_server::Kv as _;
use keelson_proto::etcdserverpb::maintenance_server::Maintenance as _;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time;
use tonic::Status;

use super::backend::Backend;
use super::errors::http_status;
use super::go;
use super::large::Room;
use super::v3::{self, Cluster, Kv, Maintenance, Unread};

/// The timeout for the body of a request.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// The HTTP header for the gRPC metadata `hasleader`.
const REQUIRE_LEADER: &str = "grpc-metadata-hasleader";

/// The API versions at the start of a path; etcd serves the older one with the same code.
const PREFIXES: [&str; 2] = ["/v3", "/v3beta"];

/// The gateway's routes, without a fallback, so that other routers can be merged in.
pub fn router<B: Backend>(backend: B, unread: Unread) -> Router {
    let mut router = Router::new();
    for prefix in PREFIXES {
        let groups = [kv(), cluster(), maintenance()];
        for (path, method) in groups.into_iter().flatten() {
            router = router.route(&format!("{prefix}{path}"), method);
        }
        for service in &v3::NOT_OFFERED {
            let refuse = async || failure(&Status::unimplemented(service.text));
            for path in service.paths {
                router = router.route(&format!("{prefix}{path}"), any(refuse));
            }
        }
    }
    router.with_state(Gateway { backend, unread })
}

/// The state of the routes.
#[derive(Clone)]
struct Gateway<B> {
    backend: B,
    unread: Unread,
}

impl<B> Gateway<B> {
    fn kv(self) -> Kv<B> {
        Kv::new(self.backend, self.unread)
    }
}

/// Whether a path belongs to the gateway, with or without a route.
pub(super) fn owns(path: &str) -> bool {
    let below = |prefix| path.strip_prefix(prefix)?.strip_prefix('/');
    PREFIXES.into_iter().any(|prefix| below(prefix).is_some())
}

/// The answer for a path that has no route: `http.NotFound`, or grpc-gateway's own text.
pub async fn not_found(uri: Uri) -> Response {
    match owns(uri.path()) {
        true => go::plain(StatusCode::NOT_FOUND, "Not Found"),
        false => go::not_found_page(),
    }
}

/// A path, the gRPC method behind it, and its handler.
type Rpc<B> = (&'static str, MethodRouter<Gateway<B>>);

fn kv<B: Backend>() -> Vec<Rpc<B>> {
    vec![
        (
            "/kv/range",
            rpc("/etcdserverpb.KV/Range", |b, r| async move {
                b.kv().range(r).await
            }),
        ),
        (
            "/kv/put",
            rpc(
                "/etcdserverpb.KV/Put",
                |b, r| async move { b.kv().put(r).await },
            ),
        ),
        (
            "/kv/deleterange",
            rpc("/etcdserverpb.KV/DeleteRange", |b, r| async move {
                b.kv().delete_range(r).await
            }),
        ),
        (
            "/kv/txn",
            rpc(
                "/etcdserverpb.KV/Txn",
                |b, r| async move { b.kv().txn(r).await },
            ),
        ),
        (
            "/kv/compaction",
            rpc("/etcdserverpb.KV/Compact", |b, r| async move {
                b.kv().compact(r).await
            }),
        ),
    ]
}

fn cluster<B: Backend>() -> Vec<Rpc<B>> {
    vec![
        (
            "/cluster/member/add",
            rpc("/etcdserverpb.Cluster/MemberAdd", |b, r| async move {
                Cluster::new(b.backend).member_add(r).await
            }),
        ),
        (
            "/cluster/member/remove",
            rpc("/etcdserverpb.Cluster/MemberRemove", |b, r| async move {
                Cluster::new(b.backend).member_remove(r).await
            }),
        ),
        (
            "/cluster/member/update",
            rpc("/etcdserverpb.Cluster/MemberUpdate", |b, r| async move {
                Cluster::new(b.backend).member_update(r).await
            }),
        ),
        (
            "/cluster/member/list",
            rpc("/etcdserverpb.Cluster/MemberList", |b, r| async move {
                Cluster::new(b.backend).member_list(r).await
            }),
        ),
        (
            "/cluster/member/promote",
            rpc("/etcdserverpb.Cluster/MemberPromote", |b, r| async move {
                Cluster::new(b.backend).member_promote(r).await
            }),
        ),
    ]
}

fn maintenance<B: Backend>() -> Vec<Rpc<B>> {
    vec![
        (
            "/maintenance/alarm",
            rpc("/etcdserverpb.Maintenance/Alarm", |b, r| async move {
                Maintenance::new(b.backend).alarm(r).await
            }),
        ),
        (
            "/maintenance/status",
            rpc("/etcdserverpb.Maintenance/Status", |b, r| async move {
                Maintenance::new(b.backend).status(r).await
            }),
        ),
        (
            "/maintenance/defragment",
            rpc("/etcdserverpb.Maintenance/Defragment", |b, r| async move {
                Maintenance::new(b.backend).defragment(r).await
            }),
        ),
        (
            "/maintenance/hash",
            rpc("/etcdserverpb.Maintenance/Hash", |b, r| async move {
                Maintenance::new(b.backend).hash(r).await
            }),
        ),
        (
            "/maintenance/hashkv",
            rpc("/etcdserverpb.Maintenance/HashKV", |b, r| async move {
                Maintenance::new(b.backend).hash_kv(r).await
            }),
        ),
        (
            "/maintenance/transfer-leadership",
            rpc("/etcdserverpb.Maintenance/MoveLeader", |b, r| async move {
                Maintenance::new(b.backend).move_leader(r).await
            }),
        ),
        (
            "/maintenance/downgrade",
            rpc("/etcdserverpb.Maintenance/Downgrade", |b, r| async move {
                Maintenance::new(b.backend).downgrade(r).await
            }),
        ),
    ]
}

/// The handler of a path. `method` is the gRPC method, to which the rules of the API apply.
fn rpc<B, Q, A, F>(
    method: &'static str,
    call: impl Fn(Gateway<B>, tonic::Request<Q>) -> F + Clone + Send + Sync + 'static,
) -> MethodRouter<Gateway<B>>
where
    B: Backend,
    Q: DeserializeOwned + Message + Default,
    A: Serialize,
    F: Future<Output = Result<tonic::Response<A>, Status>> + Send,
{
    any(
        async move |State(gateway): State<Gateway<B>>, request: Request| {
            if request.method() != Method::POST {
                return go::plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            }
            let admitted = v3::admit(&gateway.backend, method, requires_leader(request.headers()));
            let parsed = match admitted {
                Ok(()) => parse(&gateway.backend, request).await,
                Err(error) => Err(error.into()),
            };
            let called = match parsed {
                Ok(message) => call(gateway, tonic::Request::new(message)).await,
                Err(status) => Err(status),
            };
            match called {
                Ok(response) => success(response),
                Err(status) => failure(&status),
            }
        },
    )
}

fn requires_leader(headers: &HeaderMap) -> bool {
    let required = headers.get(REQUIRE_LEADER);
    required.is_some_and(|value| value.as_bytes() == b"true")
}

/// Parses the body of a request. An empty body is an empty message.
async fn parse<B, Q>(backend: &B, request: Request) -> Result<Q, Status>
where
    B: Backend,
    Q: DeserializeOwned + Message + Default,
{
    let message_bytes_max = v3::message_bytes_max(backend);
    // Base64 expands three bytes to four, and field names and white space need room.
    let body_bytes_max = message_bytes_max.saturating_mul(2);
    let body = read(request, body_bytes_max).await?;
    if body.trim_ascii().is_empty() {
        return Ok(Q::default());
    }
    let message: Q =
        from_json(&body).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let message_bytes = message.encoded_len();
    if message_bytes_max < message_bytes {
        return Err(too_large(&message_bytes.to_string(), message_bytes_max));
    }
    Ok(message)
}

/// The error of etcd's gRPC server for a message that is too large.
fn too_large(found: &str, bytes_max: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {bytes_max})"
    ))
}

/// Parses JSON. A null field counts as missing, while serde_json treats it as a wrong type.
fn from_json<Q: DeserializeOwned>(body: &[u8]) -> serde_json::Result<Q> {
    if !body.windows(4).any(|word| word == b"null") {
        return serde_json::from_slice(body);
    }
    let mut value = serde_json::from_slice(body)?;
    drop_nulls(&mut value);
    serde_json::from_value(value)
}

/// The recursion is bounded: the parser has a depth limit.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Status> {
    let body = Limited::new(request.into_body(), bytes_max).collect();
    match time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large("more", bytes_max)),
        Ok(Err(error)) => Err(Status::cancelled(error.to_string())),
        Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
    }
}

/// The response with a JSON body. A large one keeps the share that its handler took.
fn success<A: Serialize>(response: tonic::Response<A>) -> Response {
    let room = response.extensions().get::<Room>().cloned();
    match serde_json::to_vec(response.get_ref()).map(Bytes::from) {
        Ok(body) => {
            let body = match room {
                Some(room) => room.hold(body),
                None => body,
            };
            let headers = [
                (CONTENT_TYPE.as_str(), "application/json"),
                ("grpc-metadata-content-type", "application/grpc"),
            ];
            (headers, body).into_response()
        }
        // An enum value that a newer member has sent, for which this release has no name.
        Err(error) => failure(&Status::internal(error.to_string())),
    }
}

/// grpc-gateway v1's error body, which etcd 3.4's clients read.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    message: &'a str,
    code: i32,
}

fn failure(status: &Status) -> Response {
    let failure = Failure {
        error: status.message(),
        message: status.message(),
        code: status.code() as i32,
    };
    let body = serde_json::to_vec(&failure).expect("strings and numbers are JSON");
    let headers = [(CONTENT_TYPE, "application/json")];
    (http_status(status.code()), headers, body).into_response()
}
