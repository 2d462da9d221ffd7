//! Connections of HTTP/2 that a service serves itself.
//!
//! hyper's HTTP/2 is made for servers that answer. A proxy, which only hands on, can do with much
//! less, and so may take the connection before anything was read of it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::limits::Limits;

/// A socket, or TLS over one.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection that speaks HTTP/2. The preface is still to be read.
pub struct Multiplexed<'a> {
    /// The connection.
    pub socket: Box<dyn Wire>,
    /// The address of the other end.
    pub client: SocketAddr,
    /// It is TLS.
    pub secure: bool,
    /// The bounds of the port. The connection itself has to keep them.
    pub limits: &'a Limits,
    /// Ready once the server has begun to go down.
    pub begun: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
}

/// A connection being served.
pub type Serving<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
