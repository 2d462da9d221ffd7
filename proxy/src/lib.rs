//! The localhost proxy of hosts that are no members.
//!
//! etcd 2's `--proxy on|readonly`, and better: a member that dies is not seen by its clients where
//! that is possible, a write is never sent twice, and nothing waits in big buffers. This crate may
//! not know the store: a proxy never becomes part of the quorum by accident.
//!
//! It is told what to do (`config`), and the data directory says whether it may (`role`). `members`
//! keeps asking who the members are, `probe` how they are, `leader` knows which of them leads, and
//! `endpoints` chooses one. `proxy` takes requests from `keelson-port`: most are read and answered on
//! the bare socket (`plain`); the others it hands to `http1`, or to `wait` when they wait for an event.
//! Connections of HTTP/2, which carry gRPC, are `h2`'s from end to end. `turns` says which member is tried next, `exchange` tries one
//! over a connection of `client`. `gateway` is another, simpler thing: TCP connections, unread, which
//! `relay` joins.
//!
//! | a request | is tried on another member |
//! |---|---|
//! | that the member surely did not take | always |
//! | GET, HEAD, a v3 read, left without an answer | always |
//! | a v2 wait whose member goes | from the index that it had reached, as often as it takes |
//! | any other | never: its client is told that the outcome is unknown |

mod address;
mod answers;
mod body;
mod calls;
mod client;
mod config;
mod endpoint;
mod endpoints;
mod episode;
mod exchange;
mod fetch;
mod gateway;
mod h2;
mod headers;
mod http1;
mod leader;
mod members;
mod metrics;
mod mode;
mod newest;
mod outage;
mod own;
mod plain;
mod probe;
mod promote;
mod proxy;
mod pulse;
mod relay;
mod request;
mod role;
mod sockets;
mod turns;
mod wait;

pub use address::AddressError;
pub use config::{MembersFrom, ProxyConfig};
pub use gateway::{GatewayConfig, GatewayError, serve_gateway};
pub use keelson_port::{
    ClientTls, ClientTlsFiles, Listener, ServerTls, TlsError, TlsFiles, common_name,
};
pub use mode::{Mode, ModeError};
pub use promote::{PromoteError, cluster_of_proxy, forget_promotion, forget_proxy, was_promoted};
pub use proxy::{ProxyError, serve};
pub use role::{Lock, Role, RoleError, knows_its_cluster, replace_file};
