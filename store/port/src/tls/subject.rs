//! The common name of a certificate's subject: as much of X.509 as that takes.

use std::path::Path;
use std::sync::Arc;

use super::TlsError;
use super::files::certificates;
use crate::der::{INTEGER, OBJECT, SEQUENCE, element};

const SET: u8 = 0x31;
/// The version, which certificates of version 1 leave out.
const VERSION: u8 = 0xa0;

/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The common name of the certificate with which the client of a request has proven itself, among
/// the request's extensions. Not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// The name in a verified certificate; `None` when it is empty or left out.
    pub(crate) fn of(certificate: &[u8]) -> Option<ClientName> {
        common_name_of(certificate).map(|name| ClientName(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The common name of the first certificate in a file; `None` when it is empty or left out.
///
/// # Errors
/// The file cannot be read, or has no certificate in it.
pub fn common_name(path: &Path) -> Result<Option<String>, TlsError> {
    let chain = certificates(path)?;
    Ok(chain
        .first()
        .and_then(|certificate| common_name_of(certificate)))
}

/// The common name of a certificate in DER; `None` when it is empty or left out.
pub fn common_name_of(certificate: &[u8]) -> Option<String> {
    of(certificate).filter(|name| !name.is_empty())
}

/// The serial number of a certificate, as it is encoded.
pub(crate) fn serial_number(certificate: &[u8]) -> Option<&[u8]> {
    Some(element(after_version(certificate)?, INTEGER)?.0)
}

/// The part of a certificate after the issuer: its validity comes first, then its subject.
pub(super) fn after_issuer(certificate: &[u8]) -> Option<&[u8]> {
    let mut rest = after_version(certificate)?;
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    Some(rest)
}

fn after_version(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (rest, _) = element(certificate, SEQUENCE)?;
    Some(element(rest, VERSION).map_or(rest, |(_, after)| after))
}

/// The last one, as in Go.
fn of(certificate: &[u8]) -> Option<String> {
    let mut found = None;
    let (_validity, rest) = element(after_issuer(certificate)?, SEQUENCE)?;
    let (mut subject, _) = element(rest, SEQUENCE)?;
    while let Some((mut names, after)) = element(subject, SET) {
        subject = after;
        while let Some((name, others)) = element(names, SEQUENCE) {
            names = others;
            let (kind, value) = element(name, OBJECT)?;
            if kind == COMMON_NAME {
                let (text, _) = element(value, *value.first()?)?;
                found = Some(String::from_utf8_lossy(text).into_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let organisation = (DnType::OrganizationName, "o");
        let long = "n".repeat(200);
        for name in ["root", "", &long] {
            let of_it = certificate(&[organisation.clone(), (DnType::CommonName, name)]);
            assert_eq!(of(&of_it).as_deref(), Some(name));
        }
        assert_eq!(of(&certificate(&[organisation])), None);
        assert_eq!(of(&certificate(&[])), None);
    }

    #[test]
    fn damage_is_no_name() {
        let whole = certificate(&[(DnType::CommonName, "root")]);
        for length in 0..whole.len() {
            assert_eq!(of(&whole[..length]), None);
        }
    }
}
