//! TLS between members.

use keelson_port::{ClientTls, ClientTlsFiles, ServerTls, TlsError, TlsFiles};

/// The TLS files of a member for its peers. The default is none: peer URLs are `http`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTlsFiles {
    /// For the https URLs of `listen_peer_urls`.
    pub server: Option<TlsFiles>,
    /// For calls to peers with https URLs.
    pub client: ClientTlsFiles,
}

/// What is made from the files, and made anew when they change.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerTls {
    pub(crate) server: Option<ServerTls>,
    pub(crate) client: ClientTls,
}

impl PeerTls {
    pub(crate) fn new(files: &PeerTlsFiles) -> Result<PeerTls, TlsError> {
        Ok(PeerTls {
            server: files.server.clone().map(ServerTls::new).transpose()?,
            client: ClientTls::new(files.client.clone())?,
        })
    }
}
