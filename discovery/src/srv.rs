//! Clusters in DNS: `_etcd-server[-ssl]._tcp.<domain>` for founders, `_etcd-client[-ssl]._tcp` for
//! clients.
//!
//! As etcd 3.4: both kinds of records are used, the host's own is found by the addresses it
//! resolves to, and the others are named 0, 1, 2 ... One rule is stricter than etcd's: a target
//! that does not resolve is an error for a founder. A founder that skipped it would start a smaller
//! cluster than the others do.

use std::future::Future;
use std::net::SocketAddr;

use tracing::warn;
use url::Url;

mod dns;

pub use dns::Dns;

/// A service record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A host name; may end with a dot.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Records with lower values come first.
    pub priority: u16,
    /// Among records of equal priority, those with higher values are preferred.
    pub weight: u16,
}

/// Resolves names to records and addresses.
pub trait Resolver: Send + Sync {
    /// The service records of a full name. An empty list is not an error.
    fn srv(&self, name: &str) -> impl Future<Output = Result<Vec<Target>, LookupError>> + Send;

    /// The addresses of a host: at least one.
    fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, LookupError>> + Send;
}

/// Why a name was not resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct LookupError {
    /// The name looked up.
    pub name: String,
    /// The resolver's reason.
    pub reason: String,
}

/// Why there is no cluster in DNS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrvError {
    /// Neither kind of record was found.
    #[error(
        "error querying DNS SRV records for _{ssl} and _{plain}: {reason}; add SRV records \
         _{plain}._tcp (or _{ssl}._tcp with TLS) to the domain, or correct --discovery-srv and \
         --discovery-srv-name"
    )]
    NoRecords {
        /// The service with TLS.
        ssl: String,
        /// The service without.
        plain: String,
        /// The resolver's reason.
        reason: String,
    },
    /// A founder's name does not resolve.
    #[error(
        "SRV discovery: a founder's address is unknown: {0}; without it this host would start \
         another cluster than the others: check the record and this host's resolver, then try again"
    )]
    Unresolved(LookupError),
    /// This host's own address does not resolve.
    #[error("SRV discovery: {0}; check --initial-advertise-peer-urls")]
    OwnUrl(LookupError),
    /// No record resolves to this host.
    #[error(
        "cannot find local etcd member {name:?} in SRV records: none of {targets} resolves to one \
         of this host's --initial-advertise-peer-urls with its scheme and port"
    )]
    NotListed {
        /// `--name`.
        name: String,
        /// The targets of the records.
        targets: String,
    },
}

/// The records to look up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SrvQuery {
    /// `--discovery-srv`.
    pub domain: String,
    /// `--discovery-srv-name`: a suffix of the service; may be empty.
    pub name: String,
}

impl SrvQuery {
    /// `etcd-server-ssl-name` or the like.
    fn label(&self, base: &str) -> String {
        match self.name.is_empty() {
            true => base.to_owned(),
            false => format!("{base}-{}", self.name),
        }
    }

    async fn lookup<R: Resolver>(&self, dns: &R, base: &str) -> Result<Vec<Record>, SrvError> {
        let (ssl, plain) = (self.label(&format!("{base}-ssl")), self.label(base));
        let mut found = Vec::new();
        let mut reasons = Vec::new();
        for (label, scheme) in [(&ssl, "https"), (&plain, "http")] {
            let name = format!("_{label}._tcp.{}.", self.domain.trim_end_matches('.'));
            match dns.srv(&name).await {
                Ok(targets) => found.extend(targets.into_iter().map(|target| Record {
                    scheme,
                    host: target.host.trim_end_matches('.').to_owned(),
                    target,
                })),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if found.is_empty() {
            if reasons.is_empty() {
                reasons.push("no such records".to_owned());
            }
            let reason = reasons.join("; ");
            return Err(SrvError::NoRecords { ssl, plain, reason });
        }
        for reason in reasons {
            warn!(reason, "one kind of SRV record could not be looked up");
        }
        found.sort_by_key(|found| (found.target.priority, u16::MAX - found.target.weight));
        Ok(found)
    }
}

struct Record {
    scheme: &'static str,
    /// Without the final dot.
    host: String,
    target: Target,
}

impl Record {
    fn url(&self) -> String {
        let Record {
            scheme,
            host,
            target,
        } = self;
        format!("{scheme}://{host}:{}", target.port)
    }
}

/// The founders, as `--initial-cluster` has them, for one of them.
///
/// The host's own entry has the record's URL, as in the others' lists: ids are computed from these
/// texts.
pub async fn cluster<R: Resolver>(
    dns: &R,
    service: &SrvQuery,
    own_name: &str,
    own_peer_urls: &[String],
) -> Result<String, SrvError> {
    let founders = service.lookup(dns, "etcd-server").await?;
    let own = own_addresses(dns, own_peer_urls).await?;
    let mut parts = Vec::new();
    let mut listed = false;
    for (number, founder) in (0_u32..).zip(&founders) {
        let addresses = dns.addresses(&founder.host, founder.target.port).await;
        let addresses = addresses.map_err(SrvError::Unresolved)?;
        let is_own = |(scheme, address): &(String, SocketAddr)| {
            scheme == founder.scheme && addresses.contains(address)
        };
        let name = match own.iter().any(is_own) {
            true => own_name.to_owned(),
            false => number.to_string(),
        };
        listed |= name == own_name;
        parts.push(format!("{name}={}", founder.url()));
    }
    if listed {
        return Ok(parts.join(","));
    }
    let targets: Vec<String> = founders.iter().map(Record::url).collect();
    Err(SrvError::NotListed {
        name: own_name.to_owned(),
        targets: targets.join(", "),
    })
}

/// The founders, for a proxy: it needs neither a name nor a record of its own.
pub async fn cluster_of<R: Resolver>(dns: &R, service: &SrvQuery) -> Result<String, SrvError> {
    let founders = service.lookup(dns, "etcd-server").await?;
    let named = (0_u32..).zip(&founders);
    let parts: Vec<String> = named
        .map(|(name, it)| format!("{name}={}", it.url()))
        .collect();
    Ok(parts.join(","))
}

/// The members' client URLs in the order of preference.
pub async fn clients<R: Resolver>(dns: &R, service: &SrvQuery) -> Result<Vec<String>, SrvError> {
    let members = service.lookup(dns, "etcd-client").await?;
    Ok(members.iter().map(Record::url).collect())
}

async fn own_addresses<R: Resolver>(
    dns: &R,
    urls: &[String],
) -> Result<Vec<(String, SocketAddr)>, SrvError> {
    let mut own = Vec::new();
    for text in urls {
        let Ok(url) = Url::parse(text) else {
            warn!(url = text, "not a URL; it is not looked for in SRV records");
            continue;
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = dns.addresses(host, port).await.map_err(SrvError::OwnUrl)?;
        own.extend(
            addresses
                .into_iter()
                .map(|address| (url.scheme().to_owned(), address)),
        );
    }
    Ok(own)
}

#[cfg(test)]
mod tests;
