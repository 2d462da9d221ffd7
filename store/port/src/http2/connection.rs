//! HTTP/2 connections that a service serves itself, without hyper.
//!
//! hyper's HTTP/2 is made for servers that answer. A proxy only forwards, needs less, and takes the
//! connection before any byte of it is read.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::limits::Limits;

/// A socket, or a TLS stream over one.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An HTTP/2 connection whose preface is not read yet.
pub struct Http2Connection<'a> {
    /// The byte stream.
    pub socket: Box<dyn Wire>,
    /// The address of the other end.
    pub client: SocketAddr,
    /// Whether the stream is TLS.
    pub secure: bool,
    /// The bounds of the port, which the service has to keep.
    pub limits: &'a Limits,
    /// Ready when the graceful shutdown of the port begins.
    pub shutdown: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
}

/// The future of a connection that is served.
pub type Serving<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
