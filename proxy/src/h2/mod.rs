//! HTTP/2 at both ends of a proxy: the connections of clients, and the connections to members.
//!
//! Nearly all traffic is gRPC calls of a few hundred bytes each way. A general server and client
//! would pass each call from task to task and through header maps. Here the field block of a call
//! is copied from one connection to the other, its data goes from the read buffer to the write
//! buffer, and the calls that many clients send at the same time reach the member in one write.
//!
//! `frame` and the port's `hpack` are the wire format. `session` is the state of a connection,
//! `driver` the task that owns its socket. `client` and `member` handle the two kinds of
//! connections; `link` holds the connections to one member. `fields` reads the fields of a request,
//! `rate_limit` counts resets, `control_frames` frames that cost the sender nothing. `call` is a
//! gRPC call between a client and a member, `other` any other request.

mod call;
mod client;
mod content_length;
mod control_frames;
mod deadlines;
mod driver;
mod fields;
mod frame;
mod link;
mod member;
mod memory;
mod other;
mod rate_limit;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use client::serve;
pub(crate) use link::Link;
pub(crate) use memory::MemoryBudget;
