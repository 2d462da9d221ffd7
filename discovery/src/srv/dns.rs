//! Lookups through the system's name servers.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use super::{LookupError, Resolver, Target};

/// Time limit for all addresses of a host.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks up records at the name servers of `/etc/resolv.conf`, and addresses as the system does,
/// `/etc/hosts` included.
pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// Reads the system's configuration.
    pub fn new() -> Result<Dns, LookupError> {
        let failed = |error: hickory_resolver::net::NetError| LookupError {
            name: "the system's resolver configuration".to_owned(),
            reason: error.to_string(),
        };
        let mut builder = TokioResolver::builder_tokio().map_err(failed)?;
        // Each name is looked up once, at the start: a cache has no use.
        builder.options_mut().cache_size = 0;
        let resolver = builder.build().map_err(failed)?;
        Ok(Dns { resolver })
    }
}

impl Resolver for Dns {
    async fn srv(&self, name: &str) -> Result<Vec<Target>, LookupError> {
        let found = match self.resolver.srv_lookup(name).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => return Err(failed(name, error)),
        };
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Target {
                    host: srv.target.to_ascii(),
                    port: srv.port,
                    priority: srv.priority,
                    weight: srv.weight,
                }),
                _ => None,
            });
        Ok(records.collect())
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
        let looking = tokio::net::lookup_host((host, port));
        let found = match tokio::time::timeout(LOOKUP_TIMEOUT, looking).await {
            Ok(found) => found.map_err(|error| failed(host, error))?,
            Err(_) => return Err(failed(host, format!("no answer within {LOOKUP_TIMEOUT:?}"))),
        };
        let addresses: Vec<SocketAddr> = found.collect();
        if addresses.is_empty() {
            return Err(failed(host, "it has no address"));
        }
        Ok(addresses)
    }
}

fn failed(name: &str, reason: impl ToString) -> LookupError {
    LookupError {
        name: name.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::SRV;
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    use super::*;

    const KNOWN: &str = "_etcd-server._tcp.example.com.";

    /// A name server with a single name.
    async fn answer(socket: UdpSocket) {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            let name = query.queries[0].name().clone();
            let mut answer = query.into_response();
            if name.to_ascii() == KNOWN {
                let target: Name = "a.example.com.".parse().expect("a name");
                let srv = RData::SRV(SRV::new(1, 2, 2380, target));
                answer.add_answer(Record::from_rdata(name, 60, srv));
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let bytes = answer.to_vec().expect("an answer");
            socket.send_to(&bytes, from).await.expect("sent");
        }
    }

    #[tokio::test]
    async fn records_are_read_and_none_is_no_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let serving = tokio::spawn(answer(socket));
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.build().expect("a resolver");
        let dns = Dns { resolver };
        let expected = Target {
            host: "a.example.com.".to_owned(),
            port: 2380,
            priority: 1,
            weight: 2,
        };
        assert_eq!(dns.srv(KNOWN).await, Ok(vec![expected]));
        assert_eq!(
            dns.srv("_etcd-server._tcp.other.com.").await,
            Ok(Vec::new())
        );
        let here = dns.addresses("127.0.0.1", 1).await;
        assert_eq!(here, Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))]));
        serving.abort();
    }
}
