//! etcd's v2 discovery protocol: a directory in a v2 keys API that all founders read and write.
//!
//! ```text
//! <url>/_config/size   the number of members
//! <url>/<hex id>       name=peerURL[,name=peerURL] of one member, in the order of createdIndex
//! ```
//!
//! Differences from etcd's own client, all on the client's side: an entry that is already ours is
//! accepted, a `PUT` whose answer was lost is looked up and retried, and a host that lost the race
//! for a place deletes its entry.

mod address;
mod keys;
mod protocol;
mod session;

use std::time::Duration;

pub use address::DiscoveryUrl;
pub use keys::{Answer, BadAnswer, Change, KeysError, Node};

use keelson_port::ClientTlsFiles;
use session::Session;

use crate::backoff::RetryPolicy;
use crate::join::{self, Join, Note, Outcome};
use crate::{DiscoveryError, Registration};

/// Registers at a discovery URL and waits until the cluster is complete.
///
/// May be called again after a crash at any point: an entry with this host's id and value is its
/// own. `note` is called before an entry is created where there was none.
pub async fn join(
    url: &str,
    me: &Registration,
    options: &Options,
    note: Option<Note>,
) -> Result<Outcome, DiscoveryError> {
    join::check(me)?;
    let protocol = Session::new(url, options)?;
    let me = me.clone();
    Join { protocol, me, note }.run().await
}

/// The founders of the cluster at a discovery URL, for a proxy: waits until they are complete, and
/// registers nothing.
pub async fn cluster_of(url: &str, options: &Options) -> Result<String, DiscoveryError> {
    join::founders(&mut Session::new(url, options)?).await
}

/// How requests to a discovery service are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--discovery-proxy`: an HTTP proxy on the way to the service.
    pub proxy: Option<String>,
    /// The CAs that an https service is verified with; the system's by default.
    pub tls: ClientTlsFiles,
    /// Time limit for a connection.
    pub connect_timeout: Duration,
    /// Time limit for every request but waits; etcd has 5 s.
    pub request_timeout: Duration,
    /// A wait without an event is requested again after this long.
    pub wait_max: Duration,
    /// How long to go on when the service fails.
    pub retry: RetryPolicy,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            proxy: None,
            tls: ClientTlsFiles::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            wait_max: Duration::from_secs(300),
            retry: RetryPolicy::default(),
        }
    }
}
