//! What a listener needs to serve TLS, made from PEM files.
//!
//! As in etcd, a certificate that is replaced on disk is used from the next handshake on, without a
//! restart: every handshake looks at the files' times. Files that have become unreadable or do not
//! belong together leave the old certificate in use.

mod client;
mod p521;
mod subject;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tracing::{info, warn};

pub use client::{ClientTls, ClientTlsFiles, Protocol, TlsSocket};
pub use subject::common_name;

/// The protocols of a port, the better first.
const ALPN: [&[u8]; 2] = [H2, HTTP_1];

/// HTTP/2's name.
pub(crate) const H2: &[u8] = b"h2";

/// HTTP/1.1's.
const HTTP_1: &[u8] = b"http/1.1";

/// The files of a listener, as etcd's flags name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA certificates that client certificates are verified against. `None`: clients need
    /// none.
    pub client_ca: Option<PathBuf>,
}

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

/// Makes TLS of connections. Clones share everything.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<LatestTls>);

#[derive(Debug)]
struct LatestTls {
    files: TlsFiles,
    latest: Mutex<Loaded>,
}

/// The certificate and key that were read, and the files' modification times.
#[derive(Debug)]
struct Loaded {
    changed: Times,
    config: Arc<ServerConfig>,
}

/// Of certificate and key; `None` of a file that is gone.
type Times = [Option<SystemTime>; 2];

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason.
    pub fn new(files: TlsFiles) -> Result<ServerTls, TlsError> {
        let loaded = Loaded {
            changed: times(&files),
            config: Arc::new(server_config(&files)?),
        };
        let latest = Mutex::new(loaded);
        Ok(ServerTls(Arc::new(LatestTls { files, latest })))
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let LatestTls { files, latest } = &*self.0;
        let changed = times(files);
        let mut latest = latest.lock();
        if changed != latest.changed {
            // Once for every change, also of files that cannot be used.
            latest.changed = changed;
            match server_config(files) {
                Ok(config) => {
                    info!(cert = %files.cert.display(), "using the new certificate");
                    latest.config = Arc::new(config);
                }
                Err(error) => warn!(%error, "going on with the old certificate"),
            }
        }
        Arc::clone(&latest.config)
    }
}

fn times(files: &TlsFiles) -> Times {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    [changed(&files.cert), changed(&files.key)]
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for both versions");
    let builder = match &files.client_ca {
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = identity(&files.cert, &files.key)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| mismatch(&files.cert, &files.key, &error))?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Ok(config)
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(path)?);
    let built = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    built.map_err(|error| unusable(path, &error))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(p521::provider())
}

/// A certificate with its chain, and its key.
pub(crate) fn identity(
    cert: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
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

/// The verifier of client certificates.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let path = path.to_owned();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Missing {
            path,
            what: "certificate",
        }),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::NotPem { path, error }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

fn unusable(path: &Path, error: &impl ToString) -> TlsError {
    TlsError::Unusable {
        path: path.display().to_string(),
        error: error.to_string(),
    }
}

pub(crate) fn mismatch(cert: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    TlsError::Unusable {
        path: format!("{} with {}", cert.display(), key.display()),
        error: error.to_string(),
    }
}
