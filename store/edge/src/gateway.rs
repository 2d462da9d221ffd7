//! The v3 API as JSON over HTTP, as etcd's grpc-gateway offers it: `POST /v3/kv/range` and so on.
//!
//! A request's JSON becomes a call of the gRPC services (`request`), so that the rules are the same
//! as over gRPC. The answer's messages become JSON again: one of them (`answer`), or one chunk for
//! each (`stream`). `table` has the paths.

mod answer;
mod json;
mod request;
mod requests;
mod room;
mod stream;
mod table;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use http::{HeaderMap, Method, StatusCode, Uri};
use keelson_port::ClientName;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::body::Body;

pub(super) use self::answer::failure;
pub(super) use self::request::text_bytes_max;
pub(super) use self::room::JsonRoom;
use super::go;
use super::rates::OverLimit;
use super::v3::Unread;

/// The timeout for the body of a request that is one message.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// etcd's refusal of clients whose certificate has a common name, while auth is enabled.
const COMMON_NAME: &str = "CommonName of client sending a request against gateway will be ignored \
     and not used as expected";

/// The API versions at the start of a path. etcd serves the older ones, as long as it does, with
/// the same code.
const PREFIXES: [&str; 3] = ["/v3", "/v3beta", "/v3alpha"];

/// The gateway's routes, without a fallback, so that other routers can be merged in.
pub(super) fn router<C: Calls>(calls: Arc<C>) -> Router {
    let mut router = Router::new();
    for prefix in PREFIXES {
        for (path, method) in table::all() {
            router = router.route(&format!("{prefix}{path}"), method);
        }
    }
    router.with_state(calls)
}

/// Whether a path belongs to the gateway, with or without a route.
pub(super) fn owns(path: &str) -> bool {
    let below = |prefix| path.strip_prefix(prefix)?.strip_prefix('/');
    PREFIXES.into_iter().any(|prefix| below(prefix).is_some())
}

/// The answer for a path that has no route: `http.NotFound`, or grpc-gateway's own text.
pub(super) async fn not_found(uri: Uri) -> Response {
    match owns(uri.path()) {
        true => go::plain(StatusCode::NOT_FOUND, "Not Found"),
        false => go::not_found_page(),
    }
}

/// A JSON message of a request.
trait JsonRequest: DeserializeOwned + Message + Default + Send + 'static {}
impl<T: DeserializeOwned + Message + Default + Send + 'static> JsonRequest for T {}

/// A message that is answered as JSON.
trait JsonAnswer: Serialize + Message + Default + Send + 'static {}
impl<T: Serialize + Message + Default + Send + 'static> JsonAnswer for T {}

/// gRPC's services as the gateway calls them.
pub(super) trait Calls: Send + Sync + 'static {
    /// Answers a call. Its body is a frame for each message; an error is in the trailers, or in the
    /// headers if there is no message. A stream ends by itself when the port shuts down.
    fn answer(&self, request: http::Request<Body>) -> impl Future<Output = CallAnswer> + Send;

    /// The largest message of a method's request, in bytes.
    fn message_bytes_max(&self, method: &str) -> usize;

    /// Whether a client's certificate would name its user over gRPC. The gateway does not pass it
    /// on, and refuses such clients as etcd's does.
    fn has_certificate_users(&self) -> bool;

    /// Charges the user of a call, which has these headers over HTTP, before its body is read.
    ///
    /// # Errors
    /// The user has made too many calls.
    fn charge(&self, _metadata: impl FnOnce() -> HeaderMap) -> Result<(), OverLimit> {
        Ok(())
    }

    /// The budget for large messages that clients have not read.
    fn unread(&self) -> &Unread;

    /// The budget for the JSON of requests.
    fn json_room(&self) -> &JsonRoom;
}

/// The answer to a call.
pub(super) type CallAnswer = http::Response<Body>;

/// The route of a method with one request and one answer.
fn unary<C: Calls, Q: JsonRequest, A: JsonAnswer>(
    path: &'static str,
    method: &'static str,
) -> (&'static str, MethodRouter<Arc<C>>) {
    let answer = async move |State(calls): State<Arc<C>>, request: Request| {
        if let Err(refused) = admitted(&*calls, &request) {
            return refused;
        }
        match request::whole::<C, Q>(&calls, method, request).await {
            Ok(call) => answer::unary::<A>(calls.answer(call).await).await,
            Err(status) => answer::failure(&status),
        }
    };
    (path, any(answer))
}

/// The route of a method with one request and a stream of answers.
fn server_stream<C: Calls, Q: JsonRequest, A: JsonAnswer>(
    path: &'static str,
    method: &'static str,
) -> (&'static str, MethodRouter<Arc<C>>) {
    let answer = async move |State(calls): State<Arc<C>>, request: Request| {
        if let Err(refused) = admitted(&*calls, &request) {
            return refused;
        }
        match request::whole::<C, Q>(&calls, method, request).await {
            Ok(call) => stream::answer::<C, A>(&calls, calls.answer(call).await).await,
            Err(status) => answer::failure(&status),
        }
    };
    (path, any(answer))
}

/// The route of a method with a stream of requests and one of answers. The body of a request may
/// hold several messages.
fn bidi_stream<C: Calls, Q: JsonRequest, A: JsonAnswer>(
    path: &'static str,
    method: &'static str,
) -> (&'static str, MethodRouter<Arc<C>>) {
    let answer = async move |State(calls): State<Arc<C>>, request: Request| {
        if let Err(refused) = admitted(&*calls, &request) {
            return refused;
        }
        match request::streamed::<C, Q>(&calls, method, request).await {
            Ok(call) => stream::answer::<C, A>(&calls, calls.answer(call).await).await,
            Err(status) => answer::failure(&status),
        }
    };
    (path, any(answer))
}

#[expect(
    clippy::result_large_err,
    reason = "the error is the response, sent at once"
)]
fn admitted<C: Calls>(calls: &C, request: &Request) -> Result<(), Response> {
    let is_named = request.extensions().get::<ClientName>().is_some();
    if is_named && calls.has_certificate_users() {
        return Err(go::plain(StatusCode::BAD_REQUEST, COMMON_NAME));
    }
    if *request.method() != Method::POST {
        let text = "Method Not Allowed";
        return Err(go::plain(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let charged = calls.charge(|| request::metadata(request.headers()));
    charged.map_err(|over| over.answer(failure(&over.status())))
}

/// The value of a header, if it is text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
