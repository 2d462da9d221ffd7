//! Forwards gRPC calls.
//!
//! A call is tried on another member when the first has surely not begun with it, or when it is a
//! read. Any other fails with the words that etcd's own members have for "it may or may not have
//! happened", which clients know and do not take for an invitation to try again.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;
use tracing::debug;

use crate::answers::Refusal;
use crate::body::AnswerBody;
use crate::call_body::CallBody;
use crate::calls;
use crate::endpoint::Endpoint;
use crate::exchange::Failure;
use crate::headers::{self, PROXIED_BY, X_FORWARDED_FOR};
use crate::http1;
use crate::mode::Mode;
use crate::proxy::Proxy;
use crate::turns::Turns;

/// gRPC's codes.
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const FAILED_PRECONDITION: u8 = 9;
const PERMISSION_DENIED: u8 = 7;

/// etcd's own text for an outcome that is unknown: `ErrTimeoutDueToConnectionLost`.
const CONNECTION_LOST: &str = "etcdserver: request timed out, possibly due to connection lost";

/// A call that can be sent.
struct Call {
    path: String,
    headers: HeaderMap,
    body: CallBody,
    read: bool,
}

/// Forwards a call to its end.
pub(crate) async fn forward(
    proxy: &Proxy,
    request: Request<Incoming>,
    client: SocketAddr,
) -> Response<AnswerBody> {
    proxy.metrics.request(&Method::POST);
    let began = Instant::now();
    if proxy.config.mode == Mode::ReadOnly && !calls::reads(request.uri().path()) {
        return failed(PERMISSION_DENIED, "proxy: this proxy is read-only");
    }
    let answered = match proxy.has_seen(request.headers()) {
        true => Err(Refusal::Loop),
        false => forward_new(proxy, request, client).await,
    };
    match answered {
        Ok(response) => {
            let took = began.elapsed();
            proxy
                .metrics
                .handled(&Method::POST, response.status(), took);
            response
        }
        Err(refusal) => {
            proxy.metrics.dropped(&Method::POST, refusal);
            refused(refusal)
        }
    }
}

async fn forward_new(
    proxy: &Proxy,
    request: Request<Incoming>,
    client: SocketAddr,
) -> Result<Response<AnswerBody>, Refusal> {
    let mut call = Call::new(proxy, request, client).await?;
    let mut turns = Turns::of_request(proxy, call.read);
    let mut unanswered = false;
    while let Some(endpoint) = turns.next().await {
        let again = call.body.again();
        let attempt = attempt(proxy, &endpoint, &call.path, &call.headers, call.body);
        let failure = match while_it_lives(proxy, &endpoint, call.read, attempt).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        debug!(endpoint = %endpoint.url, failure = %failure.0, "a member failed");
        turns.failed(&endpoint);
        unanswered |= matches!(failure.0, Failure::Unanswered(_));
        if unanswered && !call.read {
            return Err(Refusal::OutcomeUnknown);
        }
        match failure.1.or(again) {
            Some(body) => call.body = body,
            // Part of it has been read, and cannot be read again.
            None => return Err(Refusal::OutcomeUnknown),
        }
    }
    Err(match unanswered {
        true => Refusal::NoAnswer,
        false => Refusal::ZeroEndpoints,
    })
}

impl Call {
    async fn new(
        proxy: &Proxy,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> Result<Call, Refusal> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let mut headers = parts.headers;
        let clients = headers::forwarded_for(&headers, client);
        headers::remove_hop_by_hop(&mut headers);
        headers.remove(HOST);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(X_FORWARDED_FOR, clients);
        headers.append(PROXIED_BY, proxy.id.clone());
        let body = match calls::is_unary(&path) {
            true => CallBody::unary(body).await.map_err(|_| Refusal::Client)?,
            false => CallBody::stream(body),
        };
        let read = calls::reads(&path);
        Ok(Call {
            path,
            headers,
            body,
            read,
        })
    }
}

/// Whoever takes long is looked at; reads leave a member that turns out to be gone.
async fn while_it_lives(
    proxy: &Proxy,
    endpoint: &Endpoint,
    read: bool,
    attempt: impl Future<Output = Result<Response<AnswerBody>, Untaken>>,
) -> Result<Response<AnswerBody>, Untaken> {
    let mut attempt = pin!(attempt);
    if let Some(answered) = proxy.pulse.soon(attempt.as_mut()).await {
        return answered;
    }
    endpoint.suspect();
    tokio::select! {
        answered = attempt => answered,
        () = endpoint.lost(), if read => Err((http1::gone(), None)),
    }
}

/// A failure, and the body when it was not touched.
type Untaken = (Failure, Option<CallBody>);

async fn attempt(
    proxy: &Proxy,
    endpoint: &Endpoint,
    path: &str,
    headers: &HeaderMap,
    body: CallBody,
) -> Result<Response<AnswerBody>, Untaken> {
    let linked = endpoint
        .link
        .sender(&endpoint.address, proxy.config.dial_timeout);
    let mut sender = match linked.await {
        Ok(sender) => sender,
        Err(error) => return Err((Failure::Unsent(error), Some(body))),
    };
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri(endpoint, path);
    *request.headers_mut() = headers.clone();
    match sender.try_send_request(request).await {
        Ok(response) => {
            let mut response = response.map(|body| AnswerBody::Call(Some(body)));
            headers::remove_hop_by_hop(response.headers_mut());
            Ok(response)
        }
        Err(mut error) => {
            let body = error.take_message().map(Request::into_body);
            Err((failure(error.into_error(), body.is_some()), body))
        }
    }
}

fn uri(endpoint: &Endpoint, path: &str) -> Uri {
    let uri = Uri::builder()
        .scheme(endpoint.address.scheme())
        .authority(endpoint.address.to_string())
        .path_and_query(path)
        .build();
    // A path that came over HTTP/2 is one; should it not be, the member says so.
    uri.unwrap_or_default()
}

/// Whether the member can have begun with the call.
fn failure(error: hyper::Error, untouched: bool) -> Failure {
    let unsent = untouched || is_unprocessed(&error);
    let error = io::Error::other(error);
    match unsent {
        true => Failure::Unsent(error),
        false => Failure::Unanswered(error),
    }
}

/// RFC 9113, 8.7: refused, or beyond the last stream of a GOAWAY.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (error.is_go_away() || (error.is_reset() && refused));
        }
        source = error.source();
    }
    false
}

fn refused(refusal: Refusal) -> Response<AnswerBody> {
    match refusal {
        // clientv3 tries again at this text alone, writes included; and nothing was done.
        Refusal::ZeroEndpoints => failed(UNAVAILABLE, "there is no connection available"),
        Refusal::OutcomeUnknown | Refusal::NoAnswer => failed(UNAVAILABLE, CONNECTION_LOST),
        Refusal::Loop => failed(
            FAILED_PRECONDITION,
            "proxy: this call has been here before; \
             a member advertises a client URL that leads to a proxy",
        ),
        Refusal::Client => failed(INTERNAL, "proxy: the call is incomplete"),
    }
}

/// An answer of trailers only.
fn failed(code: u8, text: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(bytes::Bytes::new()));
    *response.headers_mut() = trailers(code, text);
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The end of an answer whose member went away.
pub(crate) fn broken_off() -> HeaderMap {
    trailers(UNAVAILABLE, CONNECTION_LOST)
}

fn trailers(code: u8, text: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    trailers.insert("grpc-message", HeaderValue::from_static(text));
    trailers
}
