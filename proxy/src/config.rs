//! The configuration of a proxy. This crate reads no flags and no environment.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use keelson_port::{ClientTls, Limits, Slots};

use crate::mode::Mode;
use crate::sockets;

/// The configuration of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// `On` or `ReadOnly`; with `Off` the host is not a proxy.
    pub mode: Mode,
    /// The source of the member list.
    pub members: MembersFrom,
    /// The peer URLs that an earlier run saved. They have precedence over `members`: the cluster
    /// may have moved since the flags were set.
    pub kept_peer_urls: Vec<String>,
    /// Saves the peer URLs for the next run; `None`: they are not saved.
    pub save_peer_urls: Option<SavePeerUrls>,
    /// The members run or are about to start, as those that a discovery service has registered:
    /// requests are held for them. `false`: a proxy that has never reached a member answers 503
    /// from one second after its start, as etcd's does.
    pub members_expected: bool,
    /// `--proxy-refresh-interval`, 30 s: between two fetches of the member list; one second until
    /// the first succeeds.
    pub refresh_interval: Duration,
    /// `--proxy-failure-wait`, 5 s: until the next health check of a member that is down, while
    /// another is usable; otherwise it is checked ten times a second.
    pub failure_wait: Duration,
    /// `--proxy-dial-timeout`, 1 s.
    pub dial_timeout: Duration,
    /// `--proxy-write-timeout`, 5 s: the time in which a member must take the next bytes of a
    /// request.
    pub write_timeout: Duration,
    /// How long a request is held while no member is usable. 7 s by default, which is etcd's
    /// timeout for a write: 5 s and two election timeouts.
    pub request_timeout: Duration,
    /// How long members may take to reach the highest index that clients of this proxy have seen.
    /// Then a stale answer is used. 2.5 s by default: two election timeouts, and half a second.
    pub catch_up: Duration,
    /// For client URLs with https.
    pub client_tls: ClientTls,
    /// For peer URLs with https.
    pub peer_tls: ClientTls,
    /// The limits of the client port.
    pub limits: Limits,
}

type Save = dyn Fn(&[String]) -> io::Result<()> + Send + Sync;

/// Saves a cluster's peer URLs where the host keeps them.
#[derive(Clone)]
pub struct SavePeerUrls(Arc<Save>);

impl SavePeerUrls {
    /// `save` returns once the list is durable.
    pub fn new(save: impl Fn(&[String]) -> io::Result<()> + Send + Sync + 'static) -> SavePeerUrls {
        SavePeerUrls(Arc::new(save))
    }

    pub(crate) fn save(&self, peer_urls: &[String]) -> io::Result<()> {
        (self.0)(peer_urls)
    }
}

impl fmt::Debug for SavePeerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SavePeerUrls")
    }
}

/// The source of the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersFrom {
    /// Peer URLs; any of them returns the list.
    Peers(Vec<String>),
    /// A fixed list of client URLs: that of `grpc-proxy start --endpoints`.
    Clients(Vec<String>),
}

impl ProxyConfig {
    /// etcd's defaults.
    pub fn new(members: MembersFrom) -> ProxyConfig {
        ProxyConfig {
            mode: Mode::On,
            members,
            kept_peer_urls: Vec::new(),
            save_peer_urls: None,
            members_expected: false,
            refresh_interval: Duration::from_secs(30),
            failure_wait: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(1),
            write_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(7),
            catch_up: Duration::from_millis(2500),
            client_tls: ClientTls::default(),
            peer_tls: ClientTls::default(),
            limits: Limits {
                slots: Slots::of_clients().at_most(sockets::clients_max()),
                ..Limits::default()
            },
        }
    }
}
