//! An HTTP/1.1 client of one connection.
//!
//! Written by hand because of what hyper's costs here: a task and two hand-overs for every
//! request, and 20 KiB for a watch that waits. This one is polled by the request's own task, and a
//! connection that waits holds a socket and nothing else.

mod connection;
pub(crate) mod framing;
mod head;
mod socket;

pub(crate) use connection::Connection;
pub(crate) use framing::{Decoded, Framing};
pub(crate) use head::{Head, length};
