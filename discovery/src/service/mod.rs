//! A discovery service: compatible with discovery.etcd.io, with limits and expiry added.
//!
//! | request | answer |
//! |---|---|
//! | any `/new[?size=N]` | a new token's URL, without a newline |
//! | `GET` `/<token>`, `/<token>/_config/size` | the registry's, as it is |
//! | `GET` `PUT` `DELETE` `/<token>/<id>` | the same |
//! | `/health` | `OK` when a token can be made and deleted |
//! | `/metrics` | Prometheus' text |
//! | `/`, `/robots.txt` | as discovery.etcd.io |
//!
//! The registry is any server of etcd's v2 keys API. What the original lacks: a token has a size
//! within bounds and expires; only tokens that were made here can be written to; making tokens,
//! writes and connections are limited by address; bodies, entries, the size of a token and the
//! total are limited too; a wait's headers are sent at once; and a client that leaves ends its
//! wait.

mod answers;
mod asked;
mod handler;
mod limits;
mod metrics;
mod onward;
mod registry;
mod route;
mod server;
mod tokens;
mod writes;

use std::time::Duration;

use http::Method;
use keelson_port::ServerTls;

pub use limits::RateLimit;
pub use registry::{Body, HttpRegistry, Registry, RegistryError};
pub use server::serve;

use crate::Size;

/// The part of the registry that a request reaches, if any. Public for the fuzz target, which
/// checks that nothing outside is reached.
#[doc(hidden)]
pub fn forwarded(method: &Method, path: &str) -> Option<String> {
    let path = match route::Route::of(method, path) {
        route::Route::Token(path) => path,
        route::Route::Write { token, id } => tokens::below(&token, id.as_deref()),
        _ => return None,
    };
    Some(format!("{}/{path}", tokens::ROOT))
}

/// The options of a discovery service.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// `--host`: the prefix of a new token's URL. The default is the request's `Host`.
    pub prefix: Option<String>,
    /// The port speaks TLS. The files must offer HTTP/1.1 alone.
    pub tls: Option<ServerTls>,
    /// The size of a token whose `/new` names none.
    pub size_default: Size,
    /// A token's time to live; `None` for tokens that do not expire, as at discovery.etcd.io.
    pub token_ttl: Option<Duration>,
    /// Time limit for an answer of the registry, waits excepted.
    pub registry_timeout: Duration,
    /// The rate at which an address may make tokens.
    pub new: RateLimit,
    /// The rate at which an address may write below tokens. Its entries stay for a token's life.
    pub writes: RateLimit,
    /// Bound on connections, and so on waits; 4,096, or what the process has descriptors for.
    pub connections_max: usize,
    /// Bound on connections from one address, which may stand for a whole data centre.
    pub connections_per_address_max: usize,
    /// Time limit for a request's head, and again for its body.
    pub head_timeout: Duration,
    /// Bytes of a request's body, and of its target. The body is a host's "name=url".
    pub body_max: usize,
    /// Entries of one token: more than the largest cluster has members.
    pub entries_max: usize,
    /// Bytes of tokens and entries, at their largest in an answer, that all addresses together may
    /// write at once. As many come again within a token's life, or within seven days.
    pub stored_max: u64,
    /// Time limit for connections to end when the service stops.
    pub drain_timeout: Duration,
}

impl Default for ServiceOptions {
    fn default() -> ServiceOptions {
        ServiceOptions {
            prefix: None,
            tls: None,
            size_default: "3".parse().expect("three is a size"),
            token_ttl: Some(Duration::from_secs(7 * 24 * 60 * 60)),
            registry_timeout: Duration::from_secs(5),
            new: RateLimit {
                burst: 30,
                every: Duration::from_secs(2),
            },
            writes: RateLimit {
                burst: 2000,
                every: Duration::from_secs(30),
            },
            connections_max: keelson_port::connections_max().min(4096),
            connections_per_address_max: 1024,
            head_timeout: Duration::from_secs(30),
            body_max: 4 << 10,
            entries_max: 100,
            stored_max: 128 << 20,
            drain_timeout: Duration::from_secs(1),
        }
    }
}
