//! The names of an address, as Go's `LookupAddr` without cgo finds them: those of `/etc/hosts`, or
//! those of the name servers of `/etc/resolv.conf`.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The time limit of a lookup.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// All names of an address; none if the lookup fails.
pub(super) async fn names_of(address: IpAddr) -> Vec<String> {
    let Ok(Some(resolver)) = spawn_blocking(system_resolver).await else {
        return Vec::new();
    };
    let looked_up = timeout(LOOKUP_MAX, lookup(&resolver, address)).await;
    looked_up.unwrap_or_default()
}

/// The system's configuration as it is now.
fn system_resolver() -> Option<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().ok()?;
    builder.options_mut().cache_size = 0;
    builder.build().ok()
}

async fn lookup(resolver: &TokioResolver, address: IpAddr) -> Vec<String> {
    let found = resolver.lookup(Name::from(address), RecordType::PTR).await;
    let found = found.into_iter().flat_map(|found| {
        let names = found.answers().iter().map(|record| match &record.data {
            RData::PTR(name) => Some(name.0.to_ascii()),
            _ => None,
        });
        names.collect::<Vec<_>>()
    });
    found.flatten().collect()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::Record;
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
}
