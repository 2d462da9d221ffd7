//! What a port needs of a gRPC service, and the service that splits a port's HTTP/2 requests.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::future::RouteFuture;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use tonic::service::Routes;
use tower::Service;

/// A gRPC service. Not tower's `Service`: that needs `&mut self`, hence a clone of every part of it
/// for every request.
pub trait GrpcService: Send + Sync + 'static {
    /// What a call returns; `Unpin`, because tonic's futures are boxed already.
    type Future: Future<Output = Result<Response<tonic::body::Body>, Infallible>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request.
    fn call(&self, request: Request<Incoming>) -> Self::Future;
}

impl GrpcService for Routes {
    type Future = <Routes as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Service::call(&mut self.clone(), request)
    }
}

/// The body of an answer on a port.
pub(super) type Body = Either<tonic::body::Body, axum::body::Body>;

/// An answer on its way.
pub(super) enum Answer<F> {
    Grpc(F),
    Http(Box<RouteFuture<Infallible>>),
}

impl<F> Future for Answer<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answer::Grpc(grpc) => Pin::new(grpc)
                .poll(cx)
                .map_ok(|response| response.map(Either::Left)),
            Answer::Http(http) => Pin::new(http)
                .poll(cx)
                .map_ok(|response| response.map(Either::Right)),
        }
    }
}

/// Sends a request to where it belongs.
pub(super) fn split<G: GrpcService>(
    grpc: &G,
    http: &Router,
    request: Request<Incoming>,
) -> Answer<G::Future> {
    if is_grpc(&request) {
        Answer::Grpc(grpc.call(request))
    } else {
        Answer::Http(Box::new(Service::call(&mut http.clone(), request)))
    }
}

/// `application/grpc`, `application/grpc+proto` and the like, as grpc-go has it; grpc-web is
/// another protocol.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    let subtype = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    matches!(subtype, Some([] | [b'+' | b';', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
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
