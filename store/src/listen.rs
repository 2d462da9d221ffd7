//! Binds the addresses that flags name. Each error names the flag to change.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use keelson_port::{Listener, ServerTls, Socket};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Url;

/// The accept backlog. Linux limits it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens on the address.
    #[error(
        "listen {network} {address}: bind: address already in use ({url}); another process, \
         perhaps an etcd, holds this port: stop it or choose another port with --{flag}"
    )]
    InUse {
        /// `tcp` or `unix`.
        network: &'static str,
        /// `host:port`, or a path.
        address: String,
        /// As configured.
        url: Url,
        /// The flag to change.
        flag: &'static str,
    },
    /// Not an address of this host.
    #[error(
        "listen {network} {address}: bind: cannot assign requested address ({url}); no interface \
         of this host has it: correct --{flag}, or use 0.0.0.0 for all interfaces"
    )]
    NotLocal {
        /// `tcp` or `unix`.
        network: &'static str,
        /// `host:port`, or a path.
        address: String,
        /// As configured.
        url: Url,
        /// The flag to change.
        flag: &'static str,
    },
    /// It lacks what its kind needs.
    #[error("{url}: {what}, or use http:// with an IP address in --{flag}")]
    Unsupported {
        /// As configured.
        url: Url,
        /// The kind of URL that is not supported.
        what: &'static str,
        /// The flag to change.
        flag: &'static str,
    },
    /// Any other error of the operating system.
    #[error("listen {network} {address}: {source} ({url}); check --{flag}")]
    Io {
        /// `tcp` or `unix`.
        network: &'static str,
        /// `host:port`, or a path.
        address: String,
        /// As configured.
        url: Url,
        /// The flag to change.
        flag: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Binds one listener for every URL; `flag` is named in errors (`listen-client-urls`).
pub async fn bind(urls: &[Url], flag: &'static str) -> Result<Vec<Listener>, ListenError> {
    bind_clients(urls, flag, None).await
}

/// Binds the listeners for clients, with TLS where the URL is https and there is `tls`. An
/// address that is listed with and without TLS gets one listener, which distinguishes the two, as
/// etcd's does.
pub async fn bind_clients(
    urls: &[Url],
    flag: &'static str,
    tls: Option<&ServerTls>,
) -> Result<Vec<Listener>, ListenError> {
    let mut listeners: Vec<Listener> = Vec::with_capacity(urls.len());
    let mut places: Vec<(bool, &str)> = Vec::with_capacity(urls.len());
    for url in urls {
        let tls = tls.filter(|_| url.scheme().is_secure()).cloned();
        if url.scheme().is_secure() && tls.is_none() {
            return Err(ListenError::Unsupported {
                url: url.clone(),
                what: "it needs a certificate and a key",
                flag,
            });
        }
        let place = (url.scheme().is_unix(), url.authority());
        match places.iter().position(|other| *other == place) {
            Some(at) => {
                let listener = &mut listeners[at];
                listener.both |= listener.tls.is_some() != tls.is_some();
                listener.tls = listener.tls.take().or(tls);
            }
            None => {
                listeners.push(Listener::new(bind_one(url, flag).await?, tls));
                places.push(place);
            }
        }
    }
    Ok(listeners)
}

/// Whether two different URLs resolve to one address, as `localhost` and `127.0.0.1` do. Queries
/// the name service.
pub fn same_address(one: &Url, other: &Url) -> bool {
    let addresses = |url: &Url| -> Vec<SocketAddr> {
        let found = std::net::ToSocketAddrs::to_socket_addrs(url.authority());
        found.map(Iterator::collect).unwrap_or_default()
    };
    let of_one = addresses(one);
    one.scheme() == other.scheme() && addresses(other).iter().any(|at| of_one.contains(at))
}

async fn bind_one(url: &Url, flag: &'static str) -> Result<Socket, ListenError> {
    let bound = match url.scheme().is_unix() {
        // The whole host: "localhost:2379" is a file in the working directory, as for etcd.
        true => Socket::unix(url.host().as_ref()),
        false => match address(url).await {
            Ok(address) => listen(address).map(Socket::from),
            Err(error) => Err(error),
        },
    };
    bound.map_err(|source| explain(source, url, flag))
}

async fn address(url: &Url) -> io::Result<SocketAddr> {
    if let Some(ip) = url.ip() {
        return Ok(SocketAddr::new(ip, url.port()));
    }
    // Only `localhost` gets here. IPv4 comes first, as in Go: clients dial 127.0.0.1.
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host((url.host(), url.port()))
        .await?
        .collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| io::Error::other("the host name has no address"))
}

/// Listens on an address. 0.0.0.0 covers both families, as in Go, since clients rely on `[::1]`.
pub fn listen(mut address: SocketAddr) -> io::Result<TcpListener> {
    // `::ffff:127.0.0.1` is an IPv4 address, and an IPv6-only socket cannot be bound to it.
    address.set_ip(address.ip().to_canonical());
    if address.ip() == IpAddr::from([0, 0, 0, 0]) {
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        match listen_on(both) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {} // a host without IPv6
            result => return result,
        }
    }
    listen_on(address)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(v6) => {
            let socket = TcpSocket::new_v6()?;
            SockRef::from(&socket).set_only_v6(!v6.ip().is_unspecified())?;
            socket
        }
    };
    // Otherwise a restart would wait for the TIME_WAIT of the old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn explain(source: io::Error, url: &Url, flag: &'static str) -> ListenError {
    let (address, url) = (url.authority().to_owned(), url.clone());
    let network = if url.scheme().is_unix() {
        "unix"
    } else {
        "tcp"
    };
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse {
            network,
            address,
            url,
            flag,
        },
        io::ErrorKind::AddrNotAvailable => ListenError::NotLocal {
            network,
            address,
            url,
            flag,
        },
        _ => ListenError::Io {
            network,
            address,
            url,
            flag,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bind_text(url: &str) -> Result<Vec<Listener>, ListenError> {
        bind(&[Url::parse(url).expect(url)], "listen-client-urls").await
    }

    fn bound(listener: &Listener) -> SocketAddr {
        let address = listener.socket.local_addr().expect("it is bound");
        address.expect("of TCP")
    }

    #[tokio::test]
    async fn an_address_of_ipv4_in_ipv6s_clothes_is_bound() {
        let listeners = bind_text("http://[::ffff:127.0.0.1]:0").await;
        let listeners = listeners.expect("etcd takes it");
        let port = bound(&listeners[0]).port();
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("IPv4 is served");
    }

    #[tokio::test]
    async fn a_unix_socket_is_bound_and_its_file_goes_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m1");
        let url = format!("unix://{}", path.display());
        let listeners = bind_text(&url).await.expect("etcd takes it");
        tokio::net::UnixStream::connect(&path)
            .await
            .expect("it is listened on");
        let error = bind_text(&url).await.expect_err("it is taken").to_string();
        assert!(error.contains("address already in use"), "{error}");
        drop(listeners);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_taken_port_names_url_cause_and_remedy() {
        let first = bind_text("http://127.0.0.1:0").await.expect("any port");
        let port = bound(&first[0]).port();
        let url = format!("http://127.0.0.1:{port}");
        let error = bind_text(&url).await.expect_err("it is taken").to_string();
        for part in ["address already in use", &url, "--listen-client-urls"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn every_interface_means_both_families() {
        let listeners = bind_text("http://0.0.0.0:0").await.expect("any port");
        let port = bound(&listeners[0]).port();
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("IPv4 is served");
        if bound(&listeners[0]).is_ipv6() {
            tokio::net::TcpStream::connect(("::1", port))
                .await
                .expect("IPv6 is served");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_bound_is_explained() {
        for (url, part) in [
            ("http://192.0.2.1:0", "no interface of this host has it"),
            ("https://127.0.0.1:0", "it needs a certificate and a key"),
            ("unix:///nowhere/at/all", "listen unix /nowhere/at/all: "),
        ] {
            let error = bind_text(url).await.expect_err(url).to_string();
            assert!(error.contains(part), "{error}");
        }
        bind_text("http://localhost:0")
            .await
            .expect("localhost is an address");
    }
}
