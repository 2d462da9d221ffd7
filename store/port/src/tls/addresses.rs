//! etcd's check of a peer's address: the names of its certificate must lead to the address that it
//! connects from, or be among the names of that address.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;

use super::certificate::{AlternativeNames, alternative_names};
use super::reverse::names_of;

/// At most so many names of a certificate are looked up.
const NAMES_MAX: usize = 32;

/// Checks that a certificate is for the address. One without names is for any.
///
/// # Errors
/// etcd's text.
pub(super) async fn check(certificate: &[u8], from: IpAddr) -> Result<(), String> {
    check_with(certificate, from.to_canonical(), names_of).await
}

/// The same, with the lookup of an address.
async fn check_with<N: Future<Output = Vec<String>>>(
    certificate: &[u8],
    from: IpAddr,
    names_of: impl FnOnce(IpAddr) -> N,
) -> Result<(), String> {
    let names = alternative_names(certificate).ok_or("tls: its SAN cannot be read")?;
    if is_free(&names) || names.addresses.iter().any(|ip| ip.to_canonical() == from) {
        return Ok(());
    }
    if names.hosts.is_empty() {
        let addresses = &names.addresses;
        return Err(format!(
            "x509: certificate is valid for {addresses:?}, not {from}{REMEDY}"
        ));
    }
    let hosts = &names.hosts;
    for host in hosts.iter().take(NAMES_MAX) {
        if leads_to(host, from).await {
            return Ok(());
        }
    }
    let found = names_of(from).await;
    let mut found = found.iter();
    if found.any(|name| hosts.iter().any(|host| matches(host, name))) {
        return Ok(());
    }
    Err(format!(
        "tls: {from} does not match any of DNSNames {hosts:?}{REMEDY}"
    ))
}

const REMEDY: &str = "; let the names lead to that address, or give \
    --peer-skip-client-san-verification";

fn is_free(names: &AlternativeNames) -> bool {
    names.addresses.is_empty() && names.hosts.is_empty()
}

/// Whether a name has that address. One with a wildcard has none.
async fn leads_to(host: &str, from: IpAddr) -> bool {
    if host.starts_with("*.") {
        return false;
    }
    match lookup_host((host, 0)).await {
        Ok(mut found) => found.any(|at: SocketAddr| at.ip().to_canonical() == from),
        Err(_) => false,
    }
}

/// Whether a name of the certificate is that name of an address. As in etcd, a wildcard stands for
/// one label or several.
fn matches(host: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    match host.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') => name.ends_with(suffix),
        _ => name == host,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    async fn is_for(names: &[&str], from: &str) -> bool {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let from: IpAddr = from.parse().unwrap();
        let names_of = async |_| ["a.b.example.", "Node.example"].map(str::to_owned).to_vec();
        let checked = check_with(certificate.der(), from.to_canonical(), names_of);
        checked.await.is_ok()
    }

    #[tokio::test]
    async fn the_names_must_lead_to_the_address() {
        assert!(is_for(&[], "192.0.2.1").await);
        assert!(is_for(&["10.0.0.1", "192.0.2.1"], "192.0.2.1").await);
        assert!(is_for(&["192.0.2.1"], "::ffff:192.0.2.1").await);
        assert!(!is_for(&["10.0.0.1"], "192.0.2.1").await);
        assert!(is_for(&["10.0.0.1", "localhost"], "127.0.0.1").await);
        assert!(!is_for(&["localhost"], "192.0.2.1").await);
    }

    /// Only the first name of the address was compared, and only with wildcards.
    #[tokio::test]
    async fn or_be_among_the_names_of_the_address() {
        for name in ["*.b.example", "*.B.example", "*.example", "node.example"] {
            assert!(is_for(&[name], "192.0.2.1").await, "{name}");
        }
        for name in ["*.localhost", "*.a.b.example", "*.node.example", "*.xample"] {
            assert!(!is_for(&[name], "192.0.2.1").await, "{name}");
        }
    }
}
