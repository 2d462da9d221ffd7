//! The names of an address, as Go's `LookupAddr` without cgo finds them: those of `/etc/hosts`, or
//! those of the name servers of `/etc/resolv.conf`. A file that cannot be used has none; Go would
//! query a name server on this host instead of the latter.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The time limit of a lookup.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// The longest part of a file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// All names of an address; none if the lookup fails.
pub(super) async fn names_of(address: IpAddr) -> Vec<String> {
    names_by("/etc/hosts", "/etc/resolv.conf", address).await
}

/// The same by these files, as they are now.
async fn names_by(
    hosts: impl AsRef<Path> + Send + 'static,
    servers: impl AsRef<Path> + Send + 'static,
    address: IpAddr,
) -> Vec<String> {
    let read = move || {
        let listed = listed(hosts.as_ref(), address).unwrap_or_default();
        (listed, resolver(servers.as_ref()))
    };
    match spawn_blocking(read).await {
        Ok((listed, Some(resolver))) if listed.is_empty() => {
            let looked_up = timeout(LOOKUP_MAX, lookup(&resolver, address)).await;
            looked_up.unwrap_or_default()
        }
        Ok((listed, _)) => listed,
        Err(_) => Vec::new(),
    }
}

fn open(path: &Path) -> io::Result<impl Read> {
    Ok(File::open(path)?.take(FILE_BYTES_MAX))
}

/// The names in a file of hosts.
fn listed(path: &Path, address: IpAddr) -> io::Result<Vec<String>> {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(open(path)?)?;
    let query = Query::query(Name::from(address), RecordType::PTR);
    let found = hosts.lookup_static_host(&query);
    Ok(found.map_or_else(Vec::new, |found| names_in(found.answers())))
}

/// The name servers in a file; `None` without any.
fn resolver(path: &Path) -> Option<TokioResolver> {
    let mut text = Vec::new();
    open(path).ok()?.read_to_end(&mut text).ok()?;
    let (config, mut options) = parse_resolv_conf(text).ok()?;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(options).build().ok()
}

async fn lookup(resolver: &TokioResolver, address: IpAddr) -> Vec<String> {
    let found = resolver.lookup(Name::from(address), RecordType::PTR).await;
    found.map_or_else(|_| Vec::new(), |found| names_in(found.answers()))
}

fn names_in(records: &[Record]) -> Vec<String> {
    let names = records.iter().filter_map(|record| match &record.data {
        RData::PTR(name) => Some(name.0.to_ascii()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::rdata::PTR;
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server with one address.
    async fn answer(socket: UdpSocket) {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            let name = query.queries[0].name().clone();
            assert_eq!(name.to_ascii(), "1.2.0.192.in-addr.arpa.");
            let mut answer = query.into_response();
            for target in ["a.example.", "b.example."] {
                let ptr = RData::PTR(PTR(target.parse().expect("a name")));
                answer.add_answer(Record::from_rdata(name.clone(), 60, ptr));
            }
            let bytes = answer.to_vec().expect("an answer");
            socket.send_to(&bytes, from).await.expect("sent");
        }
    }

    /// The first one alone was compared.
    #[tokio::test]
    async fn an_address_has_all_names_of_its_records() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let server = socket.local_addr().expect("an address");
        let serving = tokio::spawn(answer(socket));
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.build().expect("a resolver");
        let found = lookup(&resolver, [192, 0, 2, 1].into()).await;
        assert_eq!(found, ["a.example.", "b.example."]);
        serving.abort();
    }

    /// Without name servers the file of hosts was not read either.
    #[tokio::test]
    async fn the_file_of_hosts_counts_alone_and_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let text = "192.0.2.1 a.example b.example # c.example\n192.0.2.2 d.example\n";
        std::fs::write(path("hosts"), text).expect("room");
        std::fs::write(path("garbage"), [b'\n', 0xff, 0, b'x']).expect("room");
        // No server answers at that address; a query would end as a timeout.
        std::fs::write(path("servers"), "nameserver 192.0.2.9\n").expect("room");
        for servers in ["absent", "garbage", "servers"] {
            let found = names_by(path("hosts"), path(servers), [192, 0, 2, 1].into());
            let mut found = found.await;
            found.sort();
            assert_eq!(found, ["a.example.", "b.example."], "{servers}");
        }
        for (hosts, servers) in [("absent", "absent"), ("garbage", "garbage")] {
            let found = names_by(path(hosts), path(servers), [192, 0, 2, 1].into());
            assert!(found.await.is_empty(), "{hosts}");
        }
    }
}
