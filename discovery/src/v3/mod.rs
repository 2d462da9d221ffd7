//! etcd 3.6's discovery protocol: the same idea in the v3 API of any etcd cluster.
//!
//! ```text
//! /_etcd/registry/<token>/_config/size      the number of members
//! /_etcd/registry/<token>/members/<hex id>  name=peerURL[,name=peerURL] of one; by create revision
//! ```
//!
//! As in [`crate::v2`], and unlike etcd's own client: an entry is created once and never
//! overwritten, one that is ours is accepted, and a host that lost the race for a place deletes its
//! entry.

mod protocol;
mod session;

use std::time::Duration;

use keelson_port::ClientTlsFiles;
use session::Session;

use crate::backoff::RetryPolicy;
use crate::join::{self, Join, Note, Outcome};
use crate::{DiscoveryError, Registration};

/// `--discovery-token` and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--discovery-endpoints`: `http://host:port`, `https://host:port`, or without a scheme.
    pub endpoints: Vec<String>,
    /// `--discovery-token`. It is also the token that ids are computed from.
    pub token: String,
    /// `--discovery-dial-timeout`.
    pub dial_timeout: Duration,
    /// `--discovery-request-timeout`.
    pub request_timeout: Duration,
    /// `--discovery-keepalive-time`.
    pub keepalive_time: Duration,
    /// `--discovery-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// `--discovery-cert`, `--discovery-key`, `--discovery-cacert` and
    /// `--discovery-insecure-skip-tls-verify`, for https endpoints.
    pub tls: ClientTlsFiles,
    /// Endpoints without a scheme are https: `--discovery-insecure-transport=false`, or a file is
    /// given.
    pub is_secure: bool,
    /// `--discovery-user`: not offered yet, refused with an error.
    pub user: Option<String>,
    /// A watch without an event is requested again after this long.
    pub wait_max: Duration,
    /// How long to go on when the service fails.
    pub retry: RetryPolicy,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            endpoints: Vec::new(),
            token: String::new(),
            dial_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            keepalive_time: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            tls: ClientTlsFiles::default(),
            is_secure: false,
            user: None,
            wait_max: Duration::from_secs(60),
            retry: RetryPolicy::default(),
        }
    }
}

/// Registers under a token and waits until the cluster is complete; may be called again after a
/// crash at any point. `note` is called before an entry is created where there was none.
pub async fn join(
    me: &Registration,
    options: &Options,
    note: Option<Note>,
) -> Result<Outcome, DiscoveryError> {
    join::check(me)?;
    let protocol = Session::new(options)?;
    let me = me.clone();
    Join { protocol, me, note }.run().await
}

/// The founders of a token's cluster: waits until they are complete, and registers nothing.
pub async fn cluster_of(options: &Options) -> Result<String, DiscoveryError> {
    join::founders(&mut Session::new(options)?).await
}
