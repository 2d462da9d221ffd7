//! A member's listen and advertise addresses, by flags of etcd 3 and of etcd 0.4.

use std::net::UdpSocket;

use keelson_store::config::{Url, check_bindable};
use keelson_store::edge::TlsFiles;

use super::OptionsError;
use crate::flags::{Source, Values};
use crate::options_tls::{self, SelfSigned};

/// The client listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientListeners {
    /// URLs that must be bound for the process to start.
    pub(crate) urls: Vec<Url>,
    /// `--listen-client-http-urls`, which must be bound as well: other ports for the same.
    pub(crate) http: Vec<Url>,
    /// URLs that are bound if they are free: the second port of etcd 2, which its clients try.
    pub(crate) spare: Vec<Url>,
    /// The TLS files for the https URLs among `urls` and `http`, and those of metrics.
    pub(crate) tls: Option<TlsFiles>,
    /// Their certificate, if it is to be made first.
    pub(crate) self_signed: Option<SelfSigned>,
}

impl ClientListeners {
    pub(super) fn from_values(
        values: &Values,
        urls: &[Url],
        metrics: &[Url],
        warnings: &mut Vec<String>,
    ) -> Result<ClientListeners, OptionsError> {
        let chosen = ["listen-client-urls", "addr", "bind-addr"];
        let by_default = !chosen.iter().any(|flag| values.is_given(flag));
        let mut http = optional_urls(values, "listen-client-http-urls")?;
        http.retain(|url| !urls.contains(url));
        let all = [urls, &http].concat();
        let port = options_tls::client_listeners(values, &all, metrics, warnings)?;
        Ok(ClientListeners {
            urls: urls.to_vec(),
            http,
            tls: port.files,
            self_signed: port.self_signed,
            spare: match by_default {
                true => vec![Url::http("localhost", 4001)],
                false => Vec::new(),
            },
        })
    }
}

/// The URLs of a flag that is empty by default.
pub(super) fn optional_urls(values: &Values, flag: &str) -> Result<Vec<Url>, OptionsError> {
    let urls = match values.text(flag) {
        "" => Vec::new(),
        _ => values.urls(flag),
    };
    check_bindable(&urls)?;
    Ok(urls)
}

/// The URLs of a member, with etcd's rules for defaults that follow from other flags.
pub(super) struct Addresses {
    pub(super) listen_peer: Vec<Url>,
    pub(super) listen_client: Vec<Url>,
    pub(super) advertise_peer: Vec<Url>,
    pub(super) advertise_client: Vec<Url>,
    pub(super) advertise_client_missing: bool,
}

impl Addresses {
    pub(super) fn from_values(values: &Values) -> Result<Addresses, OptionsError> {
        let mut urls = Addresses {
            listen_peer: values.urls("listen-peer-urls"),
            listen_client: values.urls("listen-client-urls"),
            advertise_peer: values.urls("initial-advertise-peer-urls"),
            advertise_client: values.urls("advertise-client-urls"),
            // As in etcd, where a file leaves the default.
            advertise_client_missing: values
                .source("listen-client-urls")
                .is_some_and(|source| source != Source::ConfigFile)
                && !values.is_given("advertise-client-urls")
                && !values.is_given("addr"),
        };
        urls.take_names_of_etcd_0_4(values);
        let is_default = |names: [&str; 2]| !names.iter().any(|name| values.is_given(name));
        if is_default(["initial-advertise-peer-urls", "peer-addr"]) {
            advertise_default_host(&urls.listen_peer, &mut urls.advertise_peer);
        }
        if is_default(["advertise-client-urls", "addr"]) {
            advertise_default_host(&urls.listen_client, &mut urls.advertise_client);
        }
        Ok(urls)
    }

    /// Applies `addr` and the other names of etcd 0.4, which Deis's own tests still use; newer
    /// names have precedence.
    fn take_names_of_etcd_0_4(&mut self, values: &Values) {
        let old = |name: &str| {
            Url::parse(&format!("http://{}", values.text(name)))
                .ok()
                .filter(|_| values.is_given(name))
        };
        let everywhere = |url: &Url| Url::http("0.0.0.0", url.port());
        for (addr, bind, advertise, listen) in [
            (
                "addr",
                "bind-addr",
                "advertise-client-urls",
                "listen-client-urls",
            ),
            (
                "peer-addr",
                "peer-bind-addr",
                "initial-advertise-peer-urls",
                "listen-peer-urls",
            ),
        ] {
            let is_client = addr == "addr";
            let (advertised, listened) = if is_client {
                (&mut self.advertise_client, &mut self.listen_client)
            } else {
                (&mut self.advertise_peer, &mut self.listen_peer)
            };
            if let Some(url) = old(addr).filter(|_| !values.is_given(advertise)) {
                *advertised = vec![url];
            }
            let bound = old(bind).or_else(|| old(addr).as_ref().map(everywhere));
            if let Some(url) = bound.filter(|_| !values.is_given(listen)) {
                *listened = vec![url];
            }
        }
    }
}

/// For a member that listens on all interfaces and advertises nothing: etcd advertises the address
/// of the default route.
fn advertise_default_host(listened: &[Url], advertised: &mut Vec<Url>) {
    let listened = &listened[0];
    if listened.host() == "0.0.0.0"
        && let Some(host) = default_host()
    {
        *advertised = vec![Url::http(&host, listened.port())];
    }
}

/// The source address of this host's default route; connecting a UDP socket sends nothing.
fn default_host() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // TEST-NET-1, RFC 5737
    Some(socket.local_addr().ok()?.ip().to_string())
}
