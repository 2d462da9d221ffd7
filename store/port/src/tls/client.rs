//! The other side: TLS towards members.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::{H2, HTTP_1, TlsError, identity, mismatch, provider, roots};

/// TLS over a socket of ours.
pub type TlsSocket = tokio_rustls::client::TlsStream<TcpStream>;

/// What a client presents and trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// Its certificate and key, if it has any.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The CA certificates that servers are verified against. `None`: the system's.
    pub ca: Option<PathBuf>,
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
    configs: OnceLock<Result<Configs, String>>,
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
        if files != ClientTlsFiles::default() {
            let _ = configs.set(Ok(Configs::new(&files)?));
        }
        Ok(ClientTls(Arc::new(Client { files, configs })))
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
        let configs = (self.0.configs)
            .get_or_init(|| Configs::new(&self.0.files).map_err(|error| error.to_string()));
        let configs = configs
            .as_ref()
            .map_err(|error| io::Error::other(error.clone()))?;
        let config = match protocol {
            Protocol::Http1 => &configs.http1,
            Protocol::Http2 => &configs.http2,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, socket).await
    }
}

impl Configs {
    fn new(files: &ClientTlsFiles) -> Result<Configs, TlsError> {
        let roots = match &files.ca {
            Some(path) => roots(path)?,
            None => system_roots(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers for both versions")
            .with_root_certificates(roots);
        let config = match &files.identity {
            Some((cert, key)) => {
                let (chain, private) = identity(cert, key)?;
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
        Ok(Configs {
            http1: offering(HTTP_1),
            http2: offering(H2),
        })
    }
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
