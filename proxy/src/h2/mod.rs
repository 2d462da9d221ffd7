//! HTTP/2, at both ends of a proxy: clients' connections, and one to each member.
//!
//! Written by hand because of what it is for: nearly everything that passes here is a gRPC call, a
//! few hundred bytes each way, which a general server and client pass from task to task and through
//! tables of their own. Here a call's fields go from one connection's compression straight into the
//! other's, its data from where it was read to where it is written, and what many clients send in
//! the same moment goes to the member in one write.
//!
//! `frame` and the port's `hpack` are the wire, `session` what both ends of a connection share, `driver`
//! the task that has the socket. `client` and `member` are the two kinds of connections, `link` those to
//! one member; `fields` reads the fields of a request, `burst` counts resets, `flood` frames that cost the
//! sender nothing. `call` is a gRPC call on its way between them, `other` a request that is none.

mod burst;
mod call;
mod client;
mod clock;
mod driver;
mod fields;
mod flood;
mod frame;
mod kept;
mod lengths;
mod link;
mod member;
mod other;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use client::serve;
pub(crate) use kept::Kept;
pub(crate) use link::Link;
