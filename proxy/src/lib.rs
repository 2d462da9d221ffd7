//! The localhost proxy of hosts that are not members.
//!
//! It does what etcd 2's `--proxy on|readonly` does. Beyond that, clients do not notice a member's
//! failure where that can be avoided, no write is sent twice, and buffers are small. This crate
//! does not depend on the store, so a proxy cannot become part of the quorum by accident.
//!
//! `config` is the configuration; files are the host's. `service` runs a proxy on the port.
//! `policy` decides which member gets a request and what happens when that fails; it shares
//! `context` with all requests. `http1` and `h2` speak the protocols: HTTP/1.1 to clients and
//! members, and gRPC's HTTP/2 from end to end; `grpc` reads the few messages of gRPC that the proxy
//! has to understand. `gateway` is separate and simpler: it relays TCP
//! connections without reading them (`relay`).
//!
//! | a request | is tried on another member |
//! |---|---|
//! | that the member certainly did not receive | always |
//! | GET, HEAD, a v3 read, left without an answer | always |
//! | a v2 watch whose member fails | from the index that it had reached, as often as needed |
//! | a v3 watch or keepalive stream whose member fails | from where it was, if that is exact |
//! | any other | never: its client gets an error, since the outcome is unknown |

mod address;
mod answers;
mod config;
mod context;
mod gateway;
mod grpc;
mod grpc_methods;
mod h2;
mod http1;
mod metrics;
mod mode;
mod own;
mod policy;
mod relay;
mod service;
mod sockets;

/// For fuzz targets.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::grpc::fuzzing::pass;
    pub use crate::http1::fuzzing::{AnswerHead, PassedRequest, Proxy, answer_head};
}

pub use address::AddressError;
pub use config::{MembersFrom, ProxyConfig, SavePeerUrls};
pub use gateway::{GatewayConfig, GatewayError, serve_gateway};
pub use keelson_port::{
    ClientTls, ClientTlsFiles, Listener, Protocol, ServerTls, TlsError, TlsFiles, common_name,
};
pub use mode::{Mode, ModeError};
pub use policy::members::fetch_client_urls;
pub use service::{ProxyError, serve};
