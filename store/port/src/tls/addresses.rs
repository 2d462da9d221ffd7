//! etcd's check of a peer's address: the names of its certificate must lead to the address that it
//! connects from.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;
use tokio::task;

use super::certificate::{AlternativeNames, alternative_names};

/// At most so many names of a certificate are looked up.
const NAMES_MAX: usize = 32;

/// Checks that a certificate is for the address. One without names is for any.
///
/// # Errors
/// etcd's text.
pub(super) async fn check(certificate: &[u8], from: IpAddr) -> Result<(), String> {
    let from = from.to_canonical();
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
    Err(format!(
        "tls: {from} does not match any of DNSNames {hosts:?}{REMEDY}"
    ))
}

const REMEDY: &str = "; let the names lead to that address, or give \
    --peer-skip-client-san-verification";

fn is_free(names: &AlternativeNames) -> bool {
    names.addresses.is_empty() && names.hosts.is_empty()
}

/// A name with a wildcard is compared with the name of the address.
async fn leads_to(host: &str, from: IpAddr) -> bool {
    match host.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') => {
            let looked_up = task::spawn_blocking(move || dns_lookup::lookup_addr(&from)).await;
            matches!(looked_up, Ok(Ok(name)) if matches_wildcard(&name, suffix))
        }
        _ => match lookup_host((host, 0)).await {
            Ok(mut found) => found.any(|at: SocketAddr| at.ip().to_canonical() == from),
            Err(_) => false,
        },
    }
}

/// The wildcard stands for one label.
fn matches_wildcard(name: &str, suffix: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let label = name.strip_suffix(&suffix.to_ascii_lowercase());
    label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
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
        check(certificate.der(), from.parse().unwrap())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn the_names_must_lead_to_the_address() {
        assert!(is_for(&[], "192.0.2.1").await);
        assert!(is_for(&["10.0.0.1", "192.0.2.1"], "192.0.2.1").await);
        assert!(is_for(&["192.0.2.1"], "::ffff:192.0.2.1").await);
        assert!(!is_for(&["10.0.0.1"], "192.0.2.1").await);
        assert!(is_for(&["10.0.0.1", "localhost"], "127.0.0.1").await);
        assert!(!is_for(&["localhost"], "192.0.2.1").await);
        assert!(!is_for(&["*.localhost"], "127.0.0.1").await);
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(matches_wildcard("a.b.example.", ".b.example"));
        assert!(matches_wildcard("A.B.example", ".b.EXAMPLE"));
        for name in ["b.example", ".b.example", "x.a.b.example", "a.bb.example"] {
            assert!(!matches_wildcard(name, ".b.example"), "{name}");
        }
    }
}
