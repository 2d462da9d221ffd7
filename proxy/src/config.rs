//! What a proxy is told. It reads no flags and no environment.

use std::path::PathBuf;
use std::time::Duration;

use keelson_port::{ClientTls, Limits, Slots};

use crate::mode::Mode;
use crate::sockets;

/// Everything a proxy needs to know.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// `On` or `ReadOnly`; a proxy that is `Off` is not started.
    pub mode: Mode,
    /// Where the members are learnt from.
    pub members: MembersFrom,
    /// `--data-dir`. The peer URLs are kept in `proxy/cluster` below it, and what is found there
    /// goes before `members`. `None`: nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// The members are there or about to be, as a discovery service says of a cluster that is full:
    /// requests are held for them. `false`: a proxy that has never reached a member answers 503 from a
    /// second after its start on, as etcd's does.
    pub members_expected: bool,
    /// `--proxy-refresh-interval`, 30 s: how often the members are asked who they are. Once a
    /// second while nobody has answered yet.
    pub refresh_interval: Duration,
    /// `--proxy-failure-wait`, 5 s: how long a member that failed is left alone while others can
    /// be asked. When none can, it is looked at ten times a second.
    pub failure_wait: Duration,
    /// `--proxy-dial-timeout`, 1 s.
    pub dial_timeout: Duration,
    /// `--proxy-write-timeout`, 5 s: for a member to take the next bytes of a request.
    pub write_timeout: Duration,
    /// How long a request is held while no member can be reached. 7 s by default, which is etcd's
    /// own patience with a write: 5 s and two election timeouts.
    pub request_timeout: Duration,
    /// How long members may take to come as far as clients of this proxy were told, before a read is
    /// answered from less. 2.5 s by default: two election timeouts, and half a second.
    pub catch_up: Duration,
    /// Towards client URLs of members that are https.
    pub client_tls: ClientTls,
    /// Towards such peer URLs.
    pub peer_tls: ClientTls,
    /// The bounds of the client port.
    pub limits: Limits,
}

/// Where the members are learnt from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersFrom {
    /// Peer URLs, of which any is asked for all members.
    Peers(Vec<String>),
    /// The client URLs themselves, for good: what `grpc-proxy start --endpoints` says.
    Clients(Vec<String>),
}

impl ProxyConfig {
    /// etcd's defaults.
    pub fn new(members: MembersFrom) -> ProxyConfig {
        ProxyConfig {
            mode: Mode::On,
            members,
            data_dir: None,
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
