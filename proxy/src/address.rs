//! The address of a URL, and whether it is one of this process's listeners.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use keelson_port::ClientTls;
use tokio::net::{TcpStream, lookup_host};
use tokio::time;
use url::{Host, Url};

/// etcd's port for clients.
const CLIENT_PORT: u16 = 2379;

/// A host and a port, and the TLS configuration for it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// Without brackets.
    host: String,
    /// The zone of a link-local IPv6 address. It is never sent (RFC 6874, 4).
    zone: Option<String>,
    port: u16,
    /// `None`: plain HTTP.
    tls: Option<ClientTls>,
}

/// Why a URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL.
    #[error("{0:?} is not a URL: {1}")]
    Malformed(String, url::ParseError),
    /// Another scheme, or a path.
    #[error("{0:?} is not an http:// URL of a host and a port without a path")]
    NotHttp(String),
    /// The URL has no host.
    #[error("{0:?} names no host")]
    NoHost(String),
}

impl Address {
    /// The address of an `http` URL.
    pub(crate) fn of_url(text: &str) -> Result<Address, AddressError> {
        Address::of(text, None)
    }

    /// The address of an `http` URL, or with `tls` of an `https` URL.
    pub(crate) fn of(text: &str, tls: Option<&ClientTls>) -> Result<Address, AddressError> {
        let owned = || text.to_owned();
        let (zoneless, zone) = split_zone(text);
        let url = Url::parse(&zoneless);
        let url = url.map_err(|error| AddressError::Malformed(owned(), error))?;
        let tls = match (url.scheme(), tls) {
            ("http", _) => None,
            ("https", Some(tls)) => Some(tls.clone()),
            _ => return Err(AddressError::NotHttp(owned())),
        };
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(AddressError::NoHost(owned())),
        };
        let port = url.port_or_known_default().unwrap_or(80);
        Ok(Address {
            host,
            zone,
            port,
            tls,
        })
    }

    /// The address of `host:port` or a URL, for a relay that does not depend on the protocol.
    pub(crate) fn of_endpoint(text: &str) -> Result<Address, AddressError> {
        let schemes = ["http://", "https://"];
        let bare = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        let bare = bare.unwrap_or(text).trim_end_matches('/');
        if bare.contains('/') {
            return Err(AddressError::NotHttp(text.to_owned()));
        }
        // The URL parser drops port 80, the default of http.
        let port = bare
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let address = Address::of_url(&format!("http://{bare}"))?;
        Ok(Address {
            port: port.unwrap_or(CLIENT_PORT),
            ..address
        })
    }

    /// The host, without brackets; also the name in its certificate.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The TLS configuration; `None` is plain.
    pub(crate) fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    /// The scheme of its URLs.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Connects, and disables Nagle's delay.
    pub(crate) async fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let connecting = TcpStream::connect((self.dialled(), self.port));
        let socket = time::timeout(timeout, connecting).await??;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    fn dialled(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host),
            None => self.host.clone(),
        }
    }

    /// Whether it resolves to one of these listeners of this process.
    pub(crate) async fn leads_to(&self, listeners: &[SocketAddr]) -> bool {
        match lookup_host((self.dialled(), self.port)).await {
            Ok(mut found) => found.any(|to| listeners.iter().any(|own| reaches(to, *own))),
            // It does not resolve yet. If it leads back later, the loop is found by its header
            // field.
            Err(_) => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `http://[fe80::1%25eth0]:2379` without its zone, which the `url` crate does not parse.
fn split_zone(url: &str) -> (String, Option<String>) {
    let parts = url
        .split_once("%25")
        .and_then(|(ip, rest)| Some((ip, rest.split_once(']')?)));
    match parts {
        Some((ip, (zone, rest))) if ip.contains('[') && !zone.is_empty() => {
            (format!("{ip}]{rest}"), Some(zone.to_owned()))
        }
        _ => (url.to_owned(), None),
    }
}

fn reaches(to: SocketAddr, listener: SocketAddr) -> bool {
    let listened = listener.ip();
    to.port() == listener.port()
        && (to.ip() == listened || (listened.is_unspecified() && is_local(to.ip())))
}

/// Only an address of this machine can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_or_refused() {
        let cases = [
            ("http://10.0.0.1:2379", Ok("10.0.0.1:2379")),
            ("http://10.0.0.1:2379/", Ok("10.0.0.1:2379")),
            ("http://[::1]:4001", Ok("[::1]:4001")),
            ("http://etcd.local", Ok("etcd.local:80")),
            ("http://[fe80::1%25lo]:4001", Ok("[fe80::1]:4001")),
        ];
        for (url, expected) in cases {
            let found = Address::of_url(url).map(|address| address.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{url}");
        }
        let zoned = Address::of_url("http://[fe80::1%25lo]:4001").unwrap();
        assert_eq!(zoned.dialled(), "fe80::1%lo");
        let https = "https://10.0.0.1:2379".to_owned();
        let refused = Address::of_url(&https).unwrap_err();
        assert_eq!(refused, AddressError::NotHttp(https.clone()));
        let address = Address::of(&https, Some(&ClientTls::default())).unwrap();
        assert!(address.tls().is_some() && address.scheme() == "https");
        assert!(Address::of_url("10.0.0.1:2379").is_err());
    }

    #[test]
    fn endpoints_need_no_scheme_and_no_port() {
        for (text, expected) in [
            ("10.0.0.1:4001", "10.0.0.1:4001"),
            ("https://10.0.0.1:4001/", "10.0.0.1:4001"),
            ("http://etcd.local:80", "etcd.local:80"),
            ("etcd.local", "etcd.local:2379"),
            ("[::1]", "[::1]:2379"),
            ("https://[::1]:1", "[::1]:1"),
        ] {
            let endpoint = Address::of_endpoint(text).unwrap();
            assert_eq!(endpoint.to_string(), expected, "{text}");
            assert!(endpoint.tls().is_none());
        }
        for bad in ["", "ftp://a:1", "a b:1", "http://a:99999"] {
            assert!(Address::of_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn own_listeners_are_recognised() {
        let wildcard = [SocketAddr::from(([0, 0, 0, 0], 2379))];
        let loopback = [SocketAddr::from(([127, 0, 0, 1], 2379))];
        let own = Address::of_url("http://127.0.0.1:2379").unwrap();
        let other_port = Address::of_url("http://127.0.0.1:2380").unwrap();
        // TEST-NET-1 of RFC 5737.
        let other_host = Address::of_url("http://192.0.2.1:2379").unwrap();
        assert!(own.leads_to(&wildcard).await);
        assert!(own.leads_to(&loopback).await);
        assert!(!other_port.leads_to(&wildcard).await);
        assert!(!other_host.leads_to(&wildcard).await);
        assert!(!other_host.leads_to(&loopback).await);
    }
}
