//! The system's name servers.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use super::{LookupError, Resolver, Target};

/// For all addresses of a host.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Records from the name servers in `/etc/resolv.conf`; addresses as the system resolves them,
/// `/etc/hosts` and all.
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
        // Asked once, at the start: nothing to remember.
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
