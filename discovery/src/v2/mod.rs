//! etcd's v2 discovery protocol: a directory in a v2 keys API that all founders read and write.
//!
//! ```text
//! <url>/_config/size   how many members there are to be
//! <url>/<hex id>       name=peerURL[,name=peerURL] of one, in the order of createdIndex
//! ```
//!
//! Differences from etcd's own client, all on our side of the wire: an entry that is already ours
//! is accepted, a `PUT` whose answer was lost is looked up and tried again, and who lost the race
//! for a place takes its entry away.

mod address;
mod join;
mod keys;
mod roster;
mod session;

use std::time::Duration;

pub use address::DiscoveryUrl;
pub use join::{Outcome, cluster_of, join};
pub use keys::{Answer, BadAnswer, Change, KeysError, Node};
pub use roster::{Entry, Roster};

use crate::backoff::Patience;

/// How to speak with a discovery service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--discovery-proxy`: an HTTP proxy on the way to the service.
    pub proxy: Option<String>,
    /// For a connection to come about.
    pub connect_timeout: Duration,
    /// For everything but waits; etcd has 5 s.
    pub request_timeout: Duration,
    /// A wait without an event is asked again after this long.
    pub wait_max: Duration,
    /// How long to go on when the service fails.
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            wait_max: Duration::from_secs(300),
            patience: Patience::default(),
        }
    }
}
