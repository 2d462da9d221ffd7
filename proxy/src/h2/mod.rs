//! HTTP/2 at both ends of a proxy: the connections of clients, and the connections to members.
//!
//! Nearly all traffic is gRPC calls of a few hundred bytes each way. A general server and client
//! would pass each call from task to task and through header maps. Here the field block of a call
//! is copied from one connection to the other, its data goes from the read buffer to the write
//! buffer, and the calls that many clients send at the same time reach the member in one write.
//!
//! The protocol is the port's `http2`. `client` and `member` handle the frames of the two kinds of
//! connections; `link` holds the connections to one member, `quota` a client's use of them, and
//! `memory` the budgets. `shared` serves equal watches of many clients from one. `fields` reads
//! the fields of a request. `call` is a gRPC call between a client and a member, `other` any other
//! request, and `owner` joins both to their streams.

mod call;
mod client;
mod fields;
mod link;
mod member;
mod memory;
mod other;
mod owner;
mod quota;
mod shared;
#[cfg(test)]
mod tests;

pub(crate) use client::serve;
pub(crate) use link::Link;
pub(crate) use memory::MemoryBudget;
pub(crate) use shared::{SharedWatches, Sharing};
