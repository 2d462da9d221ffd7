//! A listening port, for members and proxies alike.
//!
//! A connection is accepted (`listener`), recognised and served (`connection`) within bounds
//! (`limits`, `descriptors`), over TLS (`secure`, `tls`) where the listener has a certificate, and drained when the
//! port goes down (`drain`). A request that waits long may leave HTTP's machinery behind and wait on
//! the bare socket (`parking`), and one that needs little may be answered without it (`plain`); a
//! service may also take connections of HTTP/2 as they are (`multiplexed`), for whose compression there
//! is `hpack`. What is served is the caller's (`Serve`); nothing here knows of etcd's APIs.

mod access;
mod authority;
mod bell;
mod byte_set;
mod connection;
mod descriptors;
mod drain;
mod episode;
mod filtered;
mod gathered;
mod grpc_timeout;
mod guard;
mod head_clock;
mod head_mender;
pub mod hpack;
mod incoming;
mod limits;
mod listener;
mod multiplexed;
mod parking;
mod plain;
mod refusal;
mod rest;
mod secure;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

pub use access::{Access, CrossOrigin, allow_origin};
pub use bell::{Bell, Ends, Over};
pub use descriptors::{
    Slot, Slots, connections_max, descriptor_limit, page_bytes, raise_descriptor_limit,
};
pub use drain::{Drain, DrainTrigger};
pub use episode::Episode;
pub use grpc_timeout::grpc_timeout;
pub use incoming::{Incoming, Unfinished};
pub use limits::{HEAD_BYTES_MAX, HEADERS_MAX, Limits};
pub use listener::{Listener, serve};
pub use multiplexed::{Multiplexed, Serving, Wire};
pub use parking::{Cut, Parked, Parking};
pub use plain::{Parkable, Plain, PlainAnswer, Plainly, parkable, write_head};
pub use refusal::{is_host, refusal};
pub use serve::Serve;
pub use socket::{Socket, connect_unix};
pub use tls::{
    ClientTls, ClientTlsFiles, Protocol, ServerTls, TlsError, TlsFiles, TlsSocket, common_name,
};
