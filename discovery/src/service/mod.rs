//! A discovery service: answers like discovery.etcd.io, with what that one lacks.
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
//! The registry is anything with etcd's v2 keys API. New here: a token has a size within bounds and
//! expires; only tokens that were made here can be written to; making tokens, writes and connections
//! are limited by address; bodies, entries, what a token holds and what is stored together are limited
//! too; a wait's headers go out at once; and a client that leaves ends its wait.

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

pub use limits::RateLimit;
pub use registry::{Body, HttpRegistry, Registry, RegistryError};
pub use server::serve;

use crate::Size;

/// What of the registry a request reaches, if anything. For the fuzz target: nothing outside.
#[doc(hidden)]
pub fn forwarded(method: &Method, path: &str) -> Option<String> {
    let path = match route::Route::of(method, path) {
        route::Route::Token(path) => path,
        route::Route::Write { token, id } => tokens::below(&token, id.as_deref()),
        _ => return None,
    };
    Some(format!("{}/{path}", tokens::ROOT))
}

/// How a discovery service behaves.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// `--host`: what a new token's URL begins with. Without it, what the client called us.
    pub prefix: Option<String>,
    /// Members of a token whose `/new` names no size.
    pub size_default: Size,
    /// How long a token lives; without it for ever, as at discovery.etcd.io.
    pub token_ttl: Option<Duration>,
    /// For the registry to answer anything but a wait.
    pub registry_timeout: Duration,
    /// How often an address may make a token.
    pub new: RateLimit,
    /// How often an address may write below tokens. What it writes stays for a token's life.
    pub writes: RateLimit,
    /// Connections, and so waits, at a time; 4,096, or what the process has descriptors for.
    pub connections_max: usize,
    /// The same from one address, behind which may be a whole data centre.
    pub connections_per_address_max: usize,
    /// For a client to send a request's head, and again for its body.
    pub head_timeout: Duration,
    /// Bytes of a request's body, and of its target: "name=url" of a host.
    pub body_max: usize,
    /// Entries of one token: more than the largest cluster has members.
    pub entries_max: usize,
    /// Bytes of tokens and entries, as an answer has them at most, that may be written at once for all
    /// addresses together. As many come again in a token's life, or in seven days.
    pub stored_max: u64,
    /// For connections to end when the service stops.
    pub drain_timeout: Duration,
}

impl Default for ServiceOptions {
    fn default() -> ServiceOptions {
        ServiceOptions {
            prefix: None,
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
