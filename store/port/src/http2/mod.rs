//! HTTP/2 (RFC 9113) for services that need more than hyper's, or less.
//!
//! A service may take a connection before any byte of it is read ([`Http2Connection`]). This module
//! is the protocol for it: [`frame`] reads and writes frames, [`Session`] is the state of a
//! connection and [`Driver`] runs it over a socket. The service brings a [`Handler`] for each end
//! and an [`Owner`] for each stream. Field compression is in [`hpack`](crate::hpack).
//!
//! [`frame`] and [`Session`] do no IO. A session is locked for each operation, so that any task can
//! send on any stream.

mod connection;
mod content_length;
mod control_frames;
mod deadlines;
mod driver;
pub mod frame;
mod rate_limit;
mod session;
#[cfg(test)]
mod tests;

pub use connection::{Http2Connection, Serving, Wire};
pub use content_length::ContentLengths;
pub use driver::{Driver, Handler};
pub use rate_limit::RateLimit;
pub use session::{NoStream, Owner, Released, Role, SMALL_BYTES, Session};
