//! What a listener needs to serve TLS, made from PEM files.
//!
//! Files that are replaced on disk are used from the next handshake on, without a restart: every
//! handshake looks at their times (`watched.rs`). That holds for certificates, keys, authorities
//! and revocation lists, of both sides.

mod addresses;
mod any_server;
mod certificate;
mod client;
mod expiry;
mod files;
mod names;
mod p521;
mod parameters;
mod readings;
mod reload;
mod reverse;
mod revocation;
mod subject;
mod watched;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::p521::p521_secret;
pub use certificate::civil_days;
pub(crate) use certificate::{alternative_names, not_after};
pub use client::{ClientTls, ClientTlsFiles, Protocol, TlsSocket};
pub use expiry::CertificateEnd;
pub use files::TlsError;
#[cfg(test)]
pub(crate) use files::{identity, roots};
pub use names::AllowedNames;
pub use parameters::{ParametersError, TlsParameters, TlsVersion};
pub use readings::FileReadings;
pub use reload::{
    Reload, certificate_ends, file_readings, has_files, register, reload_files,
    warn_of_certificate_ends,
};
pub(crate) use revocation::Revocations;
pub(crate) use subject::serial_number;
pub use subject::{ClientName, common_name, common_name_of};
pub use watched::{Made, Watched};

use crate::connection::client_of;
use files::{FormerIdentity, Identity, certificates, mismatch, roots_of, unusable};
use names::NamedClients;

/// The protocols of a port, the better first.
const ALPN: [&[u8]; 2] = [H2, HTTP_1];

/// HTTP/2's name.
pub(crate) const H2: &[u8] = b"h2";

/// HTTP/1.1's.
const HTTP_1: &[u8] = b"http/1.1";

/// The files of a listener, as etcd's flags name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA certificates that client certificates are verified against. `None`: clients need
    /// none.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists. As in etcd, a serial number in any of them is revoked.
    pub crl: Option<PathBuf>,
    /// The names that clients' certificates must have.
    pub allowed: AllowedNames,
    /// HTTP/2 is not offered.
    pub http1_only: bool,
    /// The names of a client's certificate must lead to the client's address: etcd's check of
    /// peers.
    pub checks_addresses: bool,
    /// Versions and suites.
    pub parameters: TlsParameters,
}

impl TlsFiles {
    /// A certificate and its key. Clients need none.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> TlsFiles {
        TlsFiles {
            cert: cert.into(),
            key: key.into(),
            ..TlsFiles::default()
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let optional = [&self.client_ca, &self.crl].into_iter().flatten();
        [&self.cert, &self.key]
            .into_iter()
            .chain(optional)
            .cloned()
            .collect()
    }
}

/// Makes TLS of connections. Clones share everything.
#[derive(Clone, Debug)]
pub struct ServerTls {
    latest: Arc<Watched<Arc<ServerConfig>>>,
    checks_addresses: bool,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason.
    pub fn new(files: TlsFiles) -> Result<ServerTls, TlsError> {
        Ok(ServerTls {
            checks_addresses: files.checks_addresses,
            latest: {
                let former = FormerIdentity::default();
                Watched::new("TLS files", files.paths(), move || {
                    let pair = (files.cert.as_path(), files.key.as_path());
                    former.make(pair, |identity| server_config(&files, identity))
                })?
            },
        })
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.latest.latest())
    }

    /// Performs the TLS handshake with a client over a new socket. The caller bounds its time.
    ///
    /// # Errors
    /// The client offers nothing that is served, its certificate is refused, or it disconnects.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let from = client_of(&socket).ip();
        let stream = TlsAcceptor::from(self.config()).accept(socket).await?;
        let chain = stream.get_ref().1.peer_certificates();
        self.check_address(chain, from).await?;
        Ok(stream)
    }

    /// Checks the address of a client whose certificate is verified.
    async fn check_address(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
        from: IpAddr,
    ) -> io::Result<()> {
        match chain.and_then(<[_]>::first) {
            Some(certificate) if self.checks_addresses => {
                let checked = addresses::check(certificate, from).await;
                checked.map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }
}

fn server_config(
    files: &TlsFiles,
    (chain, key): Identity,
) -> Result<Made<Arc<ServerConfig>>, TlsError> {
    let provider = files.parameters.provider();
    let mut ends = CertificateEnd::of(&files.cert, &chain);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(files.parameters.versions())
        .map_err(|error| unusable(&files.cert, &error))?;
    let builder = match &files.client_ca {
        Some(path) => {
            let authorities = certificates(path)?;
            ends.extend(CertificateEnd::of(path, &authorities));
            let verifier = verifier(files, path, &authorities, provider)?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| mismatch(&files.cert, &files.key, &error))?;
    let protocols = if files.http1_only { &ALPN[1..] } else { &ALPN };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    if files.client_ca.is_some() {
        // rustls resumes without another look at the client's certificate, whose end may have
        // passed since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    let value = Arc::new(config);
    Ok(Made {
        value,
        ends,
        trouble: None,
    })
}

fn verifier(
    files: &TlsFiles,
    path: &Path,
    authorities: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots_of(path, authorities)?);
    let revoked = Revocations::read(files.crl.as_deref())?;
    let inner = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| unusable(path, &error))?;
    let allowed = files.allowed.clone();
    Ok(Arc::new(NamedClients {
        inner,
        revoked,
        allowed,
    }))
}

/// Ring's provider, and the curve P-521.
pub(crate) fn provider() -> CryptoProvider {
    p521::provider()
}
