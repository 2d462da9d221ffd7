//! The options of a host before its role is decided. They are parsed once: what follows depends on
//! types alone.

use std::path::PathBuf;
use std::time::Duration;

use keelson_discovery::{srv, v3};
use keelson_proxy::{ClientTlsFiles, Mode};
use keelson_store::Config;
use keelson_store::config::PeerTlsFiles;

use super::{MemberOptions, OptionsError, ProxyOptions};
use crate::flags::Values;
use crate::options_tls::{self, Upstream};

/// All that `src/` needs to decide the role of a host, and to start it.
#[derive(Debug)]
pub(crate) struct HostOptions {
    /// `--data-dir`, whose role has precedence over the flags.
    pub(crate) data_dir: PathBuf,
    /// `--proxy`, for a host without a role.
    pub(crate) mode: Mode,
    /// How a new host finds the other members.
    pub(crate) bootstrap: Bootstrap,
    /// `--initial-cluster`.
    pub(crate) initial_cluster: ClusterList,
    /// The options of a member, and of a proxy. Which role a host gets may depend on its disk and
    /// on discovery, so a fault in those of the other role is no error.
    pub(crate) member: Result<Box<MemberOptions>, OptionsError>,
    pub(crate) proxy: Result<Box<ProxyOptions>, OptionsError>,
    /// `--discovery-fallback`: a host that comes too late ends. Otherwise it becomes a proxy.
    pub(crate) exits_when_late: bool,
}

/// A list of members as the flag has it.
#[derive(Debug)]
pub(crate) struct ClusterList {
    /// The flag's text, or its default.
    pub(crate) text: String,
    /// Whether the flag is given.
    pub(crate) is_given: bool,
}

/// How a host finds the other members.
#[derive(Debug)]
pub(crate) enum Bootstrap {
    /// They are listed, or there are none.
    List,
    /// A discovery URL.
    Discovery(String, Box<keelson_discovery::Options>),
    /// A token in the v3 API of another cluster.
    DiscoveryV3(Box<v3::Options>),
    /// SRV records.
    Dns(srv::SrvQuery),
}

impl HostOptions {
    /// Whether the host has files that are read again at SIGHUP, besides those of its log.
    pub(crate) fn has_files(&self) -> bool {
        let member = self.member.as_ref().is_ok_and(|member| {
            let Config { peer_tls, jwt, .. } = &member.config;
            let peers = *peer_tls != PeerTlsFiles::default();
            member.listeners.tls.is_some() || peers || jwt.is_some()
        });
        let proxy = self.proxy.as_ref().is_ok_and(|proxy| {
            proxy.listeners.tls.is_some() || proxy.upstream != Upstream::default()
        });
        member || proxy
    }

    /// Makes every check that depends on flags alone.
    pub(crate) fn from_values(values: &Values) -> Result<HostOptions, OptionsError> {
        let mode = values.text("proxy").parse();
        let mode = mode.expect("the flag's kind allows only these values");
        let mut member = MemberOptions::from_values(values).map(Box::new);
        let mut proxy = ProxyOptions::from_values(values).map(Box::new);
        match mode {
            Mode::Off => member = Ok(member?),
            Mode::On | Mode::ReadOnly => proxy = Ok(proxy?),
        }
        Ok(HostOptions {
            data_dir: super::data_dir(values),
            mode,
            bootstrap: Bootstrap::from_values(values)?,
            initial_cluster: ClusterList {
                text: values.text("initial-cluster").to_owned(),
                is_given: values.is_given("initial-cluster"),
            },
            member,
            proxy,
            exits_when_late: values.text("discovery-fallback") == "exit",
        })
    }
}

impl Bootstrap {
    /// Whether the members found have registered themselves.
    pub(crate) fn finds_members(&self) -> bool {
        matches!(self, Bootstrap::Discovery(..) | Bootstrap::DiscoveryV3(_))
    }

    fn from_values(values: &Values) -> Result<Bootstrap, OptionsError> {
        let flags = [
            "initial-cluster",
            "discovery",
            "discovery-srv",
            "discovery-token",
        ];
        let given = flags
            .iter()
            .filter(|flag| !values.text(flag).is_empty() && values.is_given(flag));
        if 1 < given.count() {
            return Err(OptionsError::Bootstrap);
        }
        let text = |flag: &str| values.text(flag).to_owned();
        let (token, endpoints) = (text("discovery-token"), text("discovery-endpoints"));
        if token.is_empty() != endpoints.is_empty() {
            return Err(OptionsError::HalfDiscovery);
        }
        if !endpoints.is_empty() && endpoints.split(',').any(|one| one.trim().is_empty()) {
            return Err(OptionsError::EmptyEndpoint);
        }
        let tls = options_tls::discovery(values)?;
        Ok(match (text("discovery"), text("discovery-srv")) {
            (url, _) if !url.is_empty() => {
                Bootstrap::Discovery(url, Box::new(discovery_options(values, tls)))
            }
            (_, domain) if !domain.is_empty() => Bootstrap::Dns(srv::SrvQuery {
                domain,
                name: text("discovery-srv-name"),
            }),
            _ if !text("discovery-token").is_empty() => {
                Bootstrap::DiscoveryV3(Box::new(v3_options(values, tls)))
            }
            _ => Bootstrap::List,
        })
    }
}

fn discovery_options(values: &Values, tls: ClientTlsFiles) -> keelson_discovery::Options {
    let proxy = values.text("discovery-proxy");
    keelson_discovery::Options {
        proxy: (!proxy.is_empty()).then(|| proxy.to_owned()),
        tls,
        ..keelson_discovery::Options::default()
    }
}

fn v3_options(values: &Values, tls: ClientTlsFiles) -> v3::Options {
    let text = |flag: &str| values.text(flag).to_owned();
    let endpoints = text("discovery-endpoints");
    let endpoints = endpoints
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty());
    v3::Options {
        endpoints: endpoints.map(str::to_owned).collect(),
        token: text("discovery-token"),
        dial_timeout: values.duration("discovery-dial-timeout"),
        request_timeout: values.duration("discovery-request-timeout"),
        keepalive_time: values.duration("discovery-keepalive-time"),
        keepalive_timeout: values.duration("discovery-keepalive-timeout"),
        is_secure: !values.boolean("discovery-insecure-transport")
            || tls != ClientTlsFiles::default(),
        tls,
        user: Some(text("discovery-user")).filter(|user| !user.is_empty()),
        ..v3::Options::default()
    }
}

/// The times of a proxy.
#[derive(Debug)]
pub(crate) struct ProxyTimes {
    /// `--proxy-refresh-interval`.
    pub(crate) refresh_interval: Duration,
    /// `--proxy-failure-wait`.
    pub(crate) failure_wait: Duration,
    /// `--proxy-dial-timeout`.
    pub(crate) dial_timeout: Duration,
    /// `--proxy-write-timeout`.
    pub(crate) write_timeout: Duration,
    /// `--election-timeout`, which is the members'.
    pub(crate) election_timeout: Duration,
}

impl ProxyTimes {
    pub(super) fn from_values(values: &Values) -> ProxyTimes {
        let ms = |flag| Duration::from_millis(values.count(flag));
        ProxyTimes {
            refresh_interval: ms("proxy-refresh-interval"),
            failure_wait: ms("proxy-failure-wait"),
            dial_timeout: ms("proxy-dial-timeout"),
            write_timeout: ms("proxy-write-timeout"),
            election_timeout: ms("election-timeout"),
        }
    }
}
