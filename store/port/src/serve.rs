//! What a port serves.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;

use crate::incoming::Incoming;
use crate::multiplexed::{Multiplexed, Serving};
use crate::plain::{Plain, PlainAnswer};

/// Answers requests. Not tower's `Service`: that needs `&mut self`, hence a clone of every part of
/// it for every request. HTTP/1.1 requests have a `Parking` among their extensions.
pub trait Serve: Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// An answer on its way.
    type Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    /// Answers one request; its version says which protocol it came by.
    fn call(&self, request: Request<Incoming>) -> Self::Future;

    /// The same, told who asks. Proxies want to know; not an extension of the request, because that
    /// would cost everyone an allocation.
    fn call_from(&self, request: Request<Incoming>, _client: SocketAddr) -> Self::Future {
        self.call(request)
    }

    /// Looks at the next request of an HTTP/1.1 connection on the bare socket, and answers it there or
    /// declines. A service that does not do that, ever, gives the connection back.
    fn plain<'a>(&'a self, connection: Plain<'a>) -> Result<PlainAnswer<'a>, Plain<'a>> {
        Err(connection)
    }

    /// Serves a connection of HTTP/2 to its end, or gives it back.
    fn multiplexed<'a>(
        &'a self,
        connection: Multiplexed<'a>,
    ) -> Result<Serving<'a>, Multiplexed<'a>> {
        Err(connection)
    }
}
