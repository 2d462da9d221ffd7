//! Revocation lists, by etcd's rule: a certificate is revoked if its serial number is in any of the
//! lists, and so is one of a chain with such a certificate.
//!
//! webpki would use the first list of an issuer alone, and skip a list whose issuer it does not
//! find: a second list, or one with its issuer in another encoding, would revoke nothing.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::TlsError;
use super::files::{read, revocation_lists, unusable};
use super::subject::serial_number;

/// The lists of a file.
#[derive(Debug, Default)]
pub(crate) struct Revocations(Vec<CertRevocationList<'static>>);

impl Revocations {
    /// Reads the lists; there are none without a file.
    ///
    /// # Errors
    /// The file cannot be read, or one of its lists cannot.
    pub(super) fn read(path: Option<&Path>) -> Result<Revocations, TlsError> {
        let Some(path) = path else {
            return Ok(Revocations::default());
        };
        Revocations::of(path, read(path)?)
    }

    /// The lists of a file with that content.
    ///
    /// # Errors
    /// One of the lists cannot be read.
    pub(crate) fn of(path: &Path, content: Vec<u8>) -> Result<Revocations, TlsError> {
        let read = |list: &_| OwnedCertRevocationList::from_der(list).map(CertRevocationList::from);
        let lists = revocation_lists(path, content)?;
        let lists: Result<Vec<_>, _> = lists.iter().map(|list| read(list)).collect();
        let lists = lists.map_err(|error| unusable(path, &error))?;
        Ok(Revocations(lists))
    }

    /// Checks a verified certificate, and all that came with it.
    ///
    /// # Errors
    /// One of them is revoked, or has no serial number.
    pub(crate) fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        for one in std::iter::once(certificate).chain(intermediates) {
            let serial = serial_number(one).ok_or(CertificateError::BadEncoding)?;
            for list in &self.0 {
                match list.find_serial(serial) {
                    Ok(None) => {}
                    Ok(Some(_)) => return Err(CertificateError::Revoked.into()),
                    Err(_) => return Err(CertificateError::UnknownRevocationStatus.into()),
                }
            }
        }
        Ok(())
    }
}
