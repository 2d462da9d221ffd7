//! An HTTP/1.1 client, one connection at a time.
//!
//! hyper's client takes a task and two hand-overs for each request, and 20 KiB for a watch that
//! waits. This one is polled by the request's own task, and an idle connection holds a socket and
//! no buffer.

mod connection;
pub(crate) mod framing;
mod head;
mod socket;

pub(crate) use connection::Connection;
pub(crate) use framing::{Decoded, Framing};
pub(crate) use head::{Head, length, parse as parse_head};
