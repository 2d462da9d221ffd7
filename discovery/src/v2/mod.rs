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
mod board;
mod keys;
mod session;

use std::time::Duration;

pub use address::DiscoveryUrl;
pub use keys::{Answer, BadAnswer, Change, KeysError, Node};

use keelson_port::ClientTlsFiles;
use session::Session;

use crate::backoff::Patience;
use crate::join::{self, Join, Note, Outcome};
use crate::{DiscoveryError, Registration};

/// Registers at a discovery URL and waits until the cluster is complete.
///
/// May be called again after a crash at any point: an entry that says what ours would say is ours.
/// `note` is called before an entry is made where there was none.
pub async fn join(
    url: &str,
    me: &Registration,
    options: &Options,
    note: Option<Note>,
) -> Result<Outcome, DiscoveryError> {
    join::check(me)?;
    let board = Session::new(url, options)?;
    let me = me.clone();
    Join { board, me, note }.run().await
}

/// The founders of the cluster at a discovery URL, for a proxy: waits until they are complete, and
/// registers nothing.
pub async fn cluster_of(url: &str, options: &Options) -> Result<String, DiscoveryError> {
    join::founders(&mut Session::new(url, options)?).await
}

/// How to speak with a discovery service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--discovery-proxy`: an HTTP proxy on the way to the service.
    pub proxy: Option<String>,
    /// Whom an https service is to be trusted by; the system's roots by default.
    pub tls: ClientTlsFiles,
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
            tls: ClientTlsFiles::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            wait_max: Duration::from_secs(300),
            patience: Patience::default(),
        }
    }
}
