//! A listening port, for members and proxies alike.
//!
//! A connection is accepted (`listener`), its protocol detected, and served (`connection`) within
//! bounds (`limits`, `descriptors`). Where the listener has a certificate, it runs over TLS
//! (`secure`, `tls`). At shutdown it is drained (`drain`).
//!
//! A request that waits long may leave hyper's buffers and wait on the bare socket (`parking`). A
//! service may answer HTTP/1.1 requests on the bare socket (`fast_path`) and may serve HTTP/2
//! connections itself (`http2`), with `hpack` as their field compression. The caller brings the
//! service (`Serve`); this crate is independent of etcd's APIs.

mod access;
mod authority;
mod byte_set;
mod connection;
pub mod der;
mod descriptors;
mod drain;
mod fast_path;
mod filtered;
#[doc(hidden)]
pub mod fuzzing;
mod gathered;
mod grpc_timeout;
mod guard;
mod head_clock;
mod head_mender;
pub mod hpack;
pub mod http2;
mod incoming;
mod limits;
mod listener;
mod log_throttle;
mod memory;
pub mod metrics;
mod parking;
mod refusal;
mod rest;
mod secure;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
pub mod url;
mod waker_set;

pub use access::{Access, CrossOrigin, allow_origin};
pub use connection::expect_tls;
pub use descriptors::{Slot, Slots, connections_max, descriptor_limit, raise_descriptor_limit};
pub use drain::{Drain, DrainTrigger};
pub use fast_path::{FastPath, FastPathAnswer, FastPathOutcome, write_head};
pub use grpc_timeout::grpc_timeout;
pub use http2::{Http2Connection, Serving, Wire};
pub use incoming::{Incoming, Unfinished};
pub use limits::{HEAD_BYTES_MAX, HEADERS_MAX, Limits};
pub use listener::{Listener, serve};
pub use log_throttle::LogThrottle;
pub use memory::{Memory, memory};
pub use parking::{Cut, Parkable, Parked, park};
pub use refusal::{is_host, refusal};
pub use serve::Serve;
pub use socket::{Socket, connect_unix};
pub use tls::{
    AllowedNames, CertificateEnd, ClientName, ClientTls, ClientTlsFiles, FileReadings, Made,
    ParametersError, Protocol, Reload, ServerTls, TlsError, TlsFiles, TlsParameters, TlsSocket,
    TlsVersion, Watched, certificate_ends, civil_days, common_name, common_name_of, file_readings,
    has_files, p521_secret, register, reload_files, warn_of_certificate_ends,
};
pub use waker_set::{Terminates, Termination, WakerSet};
