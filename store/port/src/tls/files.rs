//! PEM files: certificates, keys, authorities and revocation lists.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::watched::Made;

/// The largest file that is read, in bytes. The bundle of a system's CAs has 200 KiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or not ours to read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// It is no PEM, or damaged.
    #[error("{path} is not PEM: {error}")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// It is PEM without what is needed.
    #[error("{path} has no {what} in it")]
    Missing {
        /// The file.
        path: PathBuf,
        /// A certificate, a private key.
        what: &'static str,
    },
    /// What is in it cannot be used, or certificate and key are not each other's.
    #[error("cannot use {path}: {error}")]
    Unusable {
        /// The file, or both.
        path: String,
        /// rustls's words.
        error: String,
    },
}

/// A certificate with its chain, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The identity that was used last.
#[derive(Default)]
pub(super) struct FormerIdentity(Mutex<Option<Identity>>);

impl FormerIdentity {
    /// Makes something with the certificate and key of two files. If they cannot be used, the
    /// former ones are, and all else that it is made from still takes effect: a revocation must not
    /// wait for a renewal.
    ///
    /// # Errors
    /// There are no former ones, or something else cannot be used.
    pub(super) fn make<T>(
        &self,
        (cert, key): (&Path, &Path),
        with: impl Fn(Identity) -> Result<Made<T>, TlsError>,
    ) -> Result<Made<T>, TlsError> {
        let made = identity(cert, key).and_then(|found| {
            let made = with(clone_of(&found))?;
            *self.0.lock() = Some(found);
            Ok(made)
        });
        let former = self.0.lock().as_ref().map(clone_of);
        match (made, former) {
            (Err(trouble), Some(former)) => Ok(Made {
                trouble: Some(trouble.to_string()),
                ..with(former)?
            }),
            (made, _) => made,
        }
    }
}

/// Keys are not `Clone`, so that no copy is made by oversight.
fn clone_of((chain, key): &Identity) -> Identity {
    (chain.clone(), key.clone_key())
}

/// Reads a certificate with its chain, and its key.
pub(crate) fn identity(cert: &Path, key: &Path) -> Result<Identity, TlsError> {
    let chain = certificates(cert)?;
    let path = key.to_owned();
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::Missing {
            path,
            what: "private key",
        },
        error => TlsError::NotPem { path, error },
    })?;
    Ok((chain, key))
}

/// The authorities that certificates are verified with.
pub(super) fn roots_of(
    path: &Path,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

/// The authorities of a file.
#[cfg(test)]
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    roots_of(path, &certificates(path)?)
}

/// All certificates of a file, one at least.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    some(path, found, "certificate")
}

/// All revocation lists of a file, in PEM, or one in DER as Go accepts it.
pub(super) fn revocation_lists(
    path: &Path,
    content: Vec<u8>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    const SEQUENCE: u8 = 0x30;
    if content.first() == Some(&SEQUENCE) {
        return Ok(vec![CertificateRevocationListDer::from(content)]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&content).collect();
    some(path, found, "certificate revocation list")
}

fn some<T>(
    path: &Path,
    found: Result<Vec<T>, pem::Error>,
    what: &'static str,
) -> Result<Vec<T>, TlsError> {
    let path = path.to_owned();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Missing { path, what }),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::NotPem { path, error }),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let bounded = || match fs::metadata(path)?.len() {
        length if FILE_BYTES_MAX < length => Err(io::ErrorKind::FileTooLarge.into()),
        _ => fs::read(path),
    };
    bounded().map_err(|error| TlsError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

pub(super) fn unusable(path: &Path, error: &impl ToString) -> TlsError {
    TlsError::Unusable {
        path: path.display().to_string(),
        error: error.to_string(),
    }
}

pub(super) fn mismatch(cert: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    TlsError::Unusable {
        path: format!("{} with {}", cert.display(), key.display()),
        error: error.to_string(),
    }
}
