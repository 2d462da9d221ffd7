//! The service behind a port.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;

use crate::fast_path::{FastPath, FastPathAnswer};
use crate::http2::{Http2Connection, Serving};
use crate::incoming::Incoming;

/// Answers requests. tower's `Service` takes `&mut self`, which needs a clone of the service for
/// every request. A request whose answer may be parked has `Parkable` among its extensions.
pub trait Serve: Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// The future of an answer.
    type Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    /// Answers one request. Its version is the protocol that it came by.
    fn call(&self, request: Request<Incoming>) -> Self::Future;

    /// Answers one request of a client whose address is given. A proxy forwards the address. It is
    /// an argument, because an extension of the request would cost an allocation.
    fn call_from(&self, request: Request<Incoming>, _client: SocketAddr) -> Self::Future {
        self.call(request)
    }

    /// Answers the next request of an HTTP/1.1 connection on the bare socket, or declines it. A
    /// service without a fast path returns the connection.
    fn fast_path<'a>(
        &'a self,
        connection: FastPath<'a>,
    ) -> Result<FastPathAnswer<'a>, FastPath<'a>> {
        Err(connection)
    }

    /// Serves an HTTP/2 connection to its end. A service that leaves HTTP/2 to hyper returns it.
    fn serve_http2<'a>(
        &'a self,
        connection: Http2Connection<'a>,
    ) -> Result<Serving<'a>, Http2Connection<'a>> {
        Err(connection)
    }
}
