//! When certificates end, and the warning before.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use tracing::warn;

use super::subject;
use super::{TlsError, certificate, files};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// A certificate with fewer days left is warned of.
const WARN_DAYS: i64 = 30;

/// The end of a certificate's validity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateEnd {
    /// The file.
    pub path: PathBuf,
    /// The common name of its subject; empty without one.
    pub common_name: String,
    /// Its last second, in seconds since 1970.
    pub not_after: i64,
}

impl CertificateEnd {
    /// Of all certificates from a file. One whose time cannot be read is left out: verification
    /// refuses it.
    pub(super) fn of(path: &Path, certificates: &[CertificateDer<'_>]) -> Vec<CertificateEnd> {
        let end = |certificate: &CertificateDer<'_>| {
            Some(CertificateEnd {
                path: path.to_owned(),
                common_name: subject::common_name_of(certificate).unwrap_or_default(),
                not_after: certificate::not_after(certificate)?,
            })
        };
        certificates.iter().filter_map(end).collect()
    }

    /// Of the certificates in a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate in it.
    pub fn read(path: &Path) -> Result<Vec<CertificateEnd>, TlsError> {
        Ok(CertificateEnd::of(path, &files::certificates(path)?))
    }

    /// The whole days that are left; negative after the end.
    pub fn days_left(&self) -> i64 {
        (self.not_after - now()).div_euclid(DAY_SECONDS)
    }
}

/// Warns of those that end soon, or have ended.
pub(super) fn warn_of_all(ends: &[CertificateEnd]) {
    for end in ends {
        let (file, name) = (end.path.display(), &end.common_name);
        match end.days_left() {
            days if days < 0 => {
                warn!(%file, name, "a certificate has expired: replace the file");
            }
            days if days < WARN_DAYS => {
                warn!(%file, name, days, "a certificate expires soon: replace the file");
            }
            _ => {}
        }
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}
