//! gRPC and HTTP on one port.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, Version};
use http_body_util::Either;
use keelson_port::{Drain, Incoming, Serve};
use tonic::Status;
use tonic::service::Routes;
use tower::Service;

use super::account::on_behalf_of;
use super::gate::{self, Gate};
use super::gateway::{self, BODY_TIMEOUT};
use super::rates::{self, OverLimit, Rates};
use super::v3::deadline;

/// A gRPC service. tower's `Service` takes `&mut self`, and so would need a clone of every part
/// for every request.
pub trait GrpcService: Send + Sync + 'static {
    /// The answer of a call; `Unpin`, because tonic's futures are boxed already.
    type Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + Unpin + 'static;

    /// The body of an answer.
    type Body: hyper::body::Body<Data = Bytes, Error = Status> + Default + Send + Unpin + 'static;

    /// Answers one request.
    fn call(&self, request: Request<Incoming>) -> Self::Future;
}

impl<G: GrpcService> GrpcService for Arc<G> {
    type Future = G::Future;
    type Body = G::Body;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        G::call(self, request)
    }
}

impl GrpcService for Routes {
    type Future = <Routes as Service<Request<Incoming>>>::Future;
    type Body = tonic::body::Body;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Service::call(&mut self.clone(), request)
    }
}

/// The body of an answer on a port: of a gRPC call, or of any other request.
pub(crate) type Body<B> = Either<B, axum::body::Body>;

/// The pending answer to a request, polled with its client's address set.
pub struct ResponseFuture<F, B> {
    client: SocketAddr,
    way: ResponseKind<F, B>,
}

/// The answer to a request that waits.
type HeldRequest<B> = Pin<Box<dyn Future<Output = Result<Response<Body<B>>, Infallible>> + Send>>;

/// The source of an answer.
enum ResponseKind<F, B> {
    /// A gRPC service.
    Grpc(F),
    /// The router.
    Http(Box<RouteFuture<Infallible>>),
    /// A call that is refused before its service is reached.
    Refused(Option<Box<Response<B>>>),
    /// An immediate answer of the interceptor.
    Now(Option<Response<axum::body::Body>>),
    /// A request that waits until the member is ready.
    Held(HeldRequest<B>),
    /// A pending answer of the interceptor.
    Later(Pin<Box<dyn Future<Output = Response<axum::body::Body>> + Send>>),
}

impl<F, B> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ResponseFuture { client, way } = self.get_mut();
        on_behalf_of(*client, || Pin::new(way).poll(cx))
    }
}

impl<F, B> Future for ResponseKind<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            ResponseKind::Grpc(grpc) => Pin::new(grpc)
                .poll(cx)
                .map_ok(|response| response.map(Either::Left)),
            ResponseKind::Refused(response) => {
                let response = response.take().expect("polled once");
                Poll::Ready(Ok(response.map(Either::Left)))
            }
            ResponseKind::Now(response) => {
                let response = response.take().expect("polled once");
                Poll::Ready(Ok(response.map(Either::Right)))
            }
            ResponseKind::Held(answer) => answer.as_mut().poll(cx),
            ResponseKind::Later(answer) => {
                let response = std::task::ready!(answer.as_mut().poll(cx));
                Poll::Ready(Ok(response.map(Either::Right)))
            }
            ResponseKind::Http(http) => Pin::new(http)
                .poll(cx)
                .map_ok(|response| response.map(Either::Right)),
        }
    }
}

/// A service that receives a port's HTTP requests before the router. Requests for v2 keys are so
/// frequent that the router's cost would matter.
pub trait Interceptor: Send + Sync + 'static {
    /// Answers the request, or returns it.
    fn intercept(&self, request: Request<Incoming>) -> Intercepted;

    /// An error with this text for a path of its API; `None` for other paths.
    fn error(&self, _path: &str, _text: &str) -> Option<Response<axum::body::Body>> {
        None
    }
}

/// The result of [`Interceptor::intercept`].
pub enum Intercepted {
    /// The answer.
    Answered(Response<axum::body::Body>),
    /// The pending answer.
    Pending(Pin<Box<dyn Future<Output = Response<axum::body::Body>> + Send>>),
    /// The request, which is for the router.
    Passed(Request<Incoming>),
}

/// Passes every request to the router.
impl Interceptor for () {
    fn intercept(&self, request: Request<Incoming>) -> Intercepted {
        Intercepted::Passed(request)
    }
}

impl<F: Interceptor> Interceptor for Option<F> {
    fn intercept(&self, request: Request<Incoming>) -> Intercepted {
        match self {
            Some(interceptor) => interceptor.intercept(request),
            None => Intercepted::Passed(request),
        }
    }

    fn error(&self, path: &str, text: &str) -> Option<Response<axum::body::Body>> {
        self.as_ref()?.error(path, text)
    }
}

/// The services of a port: gRPC over HTTP/2, the rest over either version.
pub struct PortServices<G, F> {
    parts: Arc<Parts<G, F>>,
    /// Requests that need a ready member wait for the gate.
    gate: Option<(Gate, Drain)>,
}

struct Parts<G, F> {
    grpc: G,
    interceptor: F,
    http: Router,
    rates: Rates,
}

impl<G, F> PortServices<G, F> {
    /// Serves every request at once.
    pub fn new(grpc: G, interceptor: F, http: Router) -> PortServices<G, F> {
        PortServices::limited(grpc, interceptor, http, Rates::default())
    }

    /// The same with limits for each connection.
    pub(crate) fn limited(
        grpc: G,
        interceptor: F,
        http: Router,
        rates: Rates,
    ) -> PortServices<G, F> {
        PortServices {
            parts: Arc::new(Parts {
                grpc,
                interceptor,
                // Builds the router once; axum would otherwise do it for each request.
                http: http.with_state(()),
                rates,
            }),
            gate: None,
        }
    }

    /// Holds requests other than probes until the gate opens. When the drain begins, waiting
    /// requests are answered with 503.
    pub fn behind(self, gate: Gate, drain: Drain) -> PortServices<G, F> {
        let gate = Some((gate, drain));
        PortServices { gate, ..self }
    }
}

impl<G: GrpcService, F: Interceptor> Serve for PortServices<G, F> {
    type Body = Body<G::Body>;
    type Future = ResponseFuture<G::Future, G::Body>;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture<G::Future, G::Body> {
        self.call_from(request, SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    fn call_from(
        &self,
        mut request: Request<Incoming>,
        client: SocketAddr,
    ) -> ResponseFuture<G::Future, G::Body> {
        let way = match &self.gate {
            Some((gate, drain)) if !gate.is_open() && !gate::is_probe(request.uri().path()) => {
                let (parts, opened) = (Arc::clone(&self.parts), gate.opened(drain.clone()));
                deadline::arrives(&mut request);
                let deadline = match is_grpc(&request) {
                    true => deadline::of(&request),
                    false => None,
                };
                ResponseKind::Held(Box::pin(async move {
                    match deadline::before(deadline, opened).await {
                        Ok(true) => parts.call(request).await,
                        Ok(false) => Ok(gate::closed().map(Either::Right)),
                        Err(late) => Ok(late.into_http().map(Either::Left)),
                    }
                }))
            }
            _ => on_behalf_of(client, || self.parts.call(request)),
        };
        ResponseFuture { client, way }
    }
}

impl<G: GrpcService, F: Interceptor> Parts<G, F> {
    fn call(&self, request: Request<Incoming>) -> ResponseKind<G::Future, G::Body> {
        let is_call = request.version() == Version::HTTP_2 && is_grpc(&request);
        let path = request.uri().path();
        match (self.rates.charge_connection(path), is_call) {
            (Ok(()), true) => return ResponseKind::Grpc(self.grpc.call(request)),
            (Ok(()), false) => {}
            (Err(over), true) => {
                return ResponseKind::Refused(Some(Box::new(over.status().into_http())));
            }
            (Err(over), false) => return ResponseKind::Now(Some(self.refusal(path, over))),
        }
        match self.interceptor.intercept(request) {
            Intercepted::Answered(response) => ResponseKind::Now(Some(response)),
            Intercepted::Pending(answer) => ResponseKind::Later(answer),
            Intercepted::Passed(request) => {
                let request = bounded(request);
                ResponseKind::Http(Box::new(Service::call(&mut self.http.clone(), request)))
            }
        }
    }
}

impl<G, F: Interceptor> Parts<G, F> {
    /// The answer to a request over HTTP that is over a limit, in the form of its API.
    fn refusal(&self, path: &str, over: OverLimit) -> Response<axum::body::Body> {
        if let Some(answer) = self.interceptor.error(path, &rates::text()) {
            return over.answer(answer);
        }
        match gateway::owns(path) {
            true => over.answer(gateway::failure(&over.status())),
            false => over.page(),
        }
    }
}

/// Limits the time for the body of a request to any route, also an embedder's. The gateway has a
/// timeout of its own with grpc-gateway's error.
fn bounded(request: Request<Incoming>) -> Request<Incoming> {
    match gateway::owns(request.uri().path()) {
        true => request,
        false => request.map(|body| body.within(BODY_TIMEOUT)),
    }
}

/// Whether the content type is `application/grpc` or `application/grpc+proto` and so on, as in
/// grpc-go; grpc-web is another protocol.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    let subtype = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    matches!(subtype, Some([] | [b'+' | b';', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_detected_by_its_content_type() {
        let cases = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ];
        for (value, expected) in cases {
            let request = Request::builder()
                .header(CONTENT_TYPE, value)
                .body(())
                .expect("a sound request");
            assert_eq!(is_grpc(&request), expected, "{value}");
        }
        assert!(!is_grpc(&Request::new(())));
    }
}
