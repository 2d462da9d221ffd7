//! The other side: TLS towards members.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use http::Uri;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::any_server::AnyServer;
use super::files::{FormerIdentity, Identity, certificates, mismatch, roots_of, unusable};
use super::names::NamedServers;
use super::revocation::Revocations;
use super::watched::{Made, Watched};
use super::{AllowedNames, CertificateEnd, H2, HTTP_1, TlsError, TlsParameters};
use crate::http2::Wire;

/// TLS over a socket of ours.
pub type TlsSocket = tokio_rustls::client::TlsStream<TcpStream>;

/// What a client presents and trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// Its certificate and key, if it has any.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The CA certificates that servers are verified against. `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Revocation lists. As in etcd, a serial number in any of them is revoked.
    pub crl: Option<PathBuf>,
    /// The names that servers' certificates must have, beside the host's.
    pub allowed: AllowedNames,
    /// The host that certificates must be for, in place of the one that is dialled.
    pub server_name: Option<String>,
    /// Servers are not verified: `--peer-auto-tls` and the flags named insecure.
    pub trusts_any: bool,
    /// Versions and suites.
    pub parameters: TlsParameters,
}

impl ClientTlsFiles {
    /// A certificate with its key, if there are any, and the CAs to trust.
    pub fn new(identity: Option<(PathBuf, PathBuf)>, ca: Option<PathBuf>) -> ClientTlsFiles {
        ClientTlsFiles {
            identity,
            ca,
            ..ClientTlsFiles::default()
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let authorities = self.ca.iter().chain(&self.crl);
        identity.chain(authorities).cloned().collect()
    }
}

/// What is spoken over TLS; the server must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Makes connections secure. The system's roots are read when first needed: they take megabytes.
#[derive(Clone, Debug, Default)]
pub struct ClientTls(Arc<Client>);

#[derive(Debug, Default)]
struct Client {
    files: ClientTlsFiles,
    configs: OnceLock<Result<Arc<Watched<Configs>>, String>>,
}

#[derive(Debug)]
struct Configs {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl ClientTls {
    /// Reads the files, if there are any.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason.
    pub fn new(files: ClientTlsFiles) -> Result<ClientTls, TlsError> {
        let configs = OnceLock::new();
        if !files.paths().is_empty() {
            let _ = configs.set(Ok(watched(&files)?));
        }
        Ok(ClientTls(Arc::new(Client { files, configs })))
    }

    /// Connects to the host of a URL, with TLS where it is https.
    ///
    /// # Errors
    /// It cannot be reached, or [`ClientTls::connect`].
    pub async fn dial(&self, uri: &Uri, protocol: Protocol) -> io::Result<Box<dyn Wire>> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        match is_secure {
            true => Ok(Box::new(self.connect(host, protocol, socket).await?)),
            false => Ok(Box::new(socket)),
        }
    }

    /// Performs the TLS handshake with `host` over a new socket.
    ///
    /// # Errors
    /// The server's certificate is not valid for `host`, or the connection ends.
    pub async fn connect(
        &self,
        host: &str,
        protocol: Protocol,
        socket: TcpStream,
    ) -> io::Result<TlsSocket> {
        let Client { files, configs } = &*self.0;
        let configs = configs.get_or_init(|| watched(files).map_err(|error| error.to_string()));
        let configs = configs
            .as_ref()
            .map_err(|error| io::Error::other(error.clone()))?
            .latest();
        let config = match protocol {
            Protocol::Http1 => &configs.http1,
            Protocol::Http2 => &configs.http2,
        };
        let name = files.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, socket).await
    }
}

fn watched(files: &ClientTlsFiles) -> Result<Arc<Watched<Configs>>, TlsError> {
    let owned = files.clone();
    let former = FormerIdentity::default();
    Watched::new("TLS files", files.paths(), move || match &owned.identity {
        Some((cert, key)) => former.make((cert, key), |own| configs(&owned, Some(own))),
        None => configs(&owned, None),
    })
}

fn configs(files: &ClientTlsFiles, own: Option<Identity>) -> Result<Made<Configs>, TlsError> {
    let provider = files.parameters.provider();
    let mut ends = Vec::new();
    let verifier = verifier(files, &mut ends)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(files.parameters.versions())
        .expect("TlsParameters leaves a suite for a version")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match files.identity.as_ref().zip(own) {
        Some(((cert, key), (chain, private))) => {
            ends.extend(CertificateEnd::of(cert, &chain));
            let config = builder.with_client_auth_cert(chain, private);
            config.map_err(|error| mismatch(cert, key, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    let offering = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    let value = Configs {
        http1: offering(HTTP_1),
        http2: offering(H2),
    };
    Ok(Made {
        value,
        ends,
        trouble: None,
    })
}

fn verifier(
    files: &ClientTlsFiles,
    ends: &mut Vec<CertificateEnd>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let provider = files.parameters.provider();
    if files.trusts_any {
        return Ok(Arc::new(AnyServer(
            provider.signature_verification_algorithms,
        )));
    }
    let roots = match &files.ca {
        Some(path) => {
            let authorities = certificates(path)?;
            ends.extend(CertificateEnd::of(path, &authorities));
            roots_of(path, &authorities)?
        }
        None => system_roots(),
    };
    let revoked = Revocations::read(files.crl.as_deref())?;
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let path = files.ca.as_deref();
    let path = path.unwrap_or("the system's CA certificates".as_ref());
    Ok(Arc::new(NamedServers {
        inner: inner.map_err(|error| unusable(path, &error))?,
        revoked,
        allowed: files.allowed.clone(),
    }))
}

/// The certificates that can be read. Without any, every handshake fails with the reason.
fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        debug!(%error, "cannot read one of the system's root certificates");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}
