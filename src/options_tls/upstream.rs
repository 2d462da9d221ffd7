//! What a proxy presents to members, and trusts.

use keelson_proxy::ClientTlsFiles;

use super::peer::peer_client;
use super::{file, identity, parameters};
use crate::flags::Values;
use crate::options::OptionsError;

/// The certificates that a proxy presents to members with https URLs, and the CAs to verify them
/// with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// For client URLs.
    pub(crate) client: ClientTlsFiles,
    /// For peer URLs.
    pub(crate) peer: ClientTlsFiles,
}

impl Upstream {
    /// As in etcd's proxy: the files for clients, or those for peers where there is no certificate
    /// for clients.
    pub(crate) fn from_values(values: &Values) -> Result<Upstream, OptionsError> {
        let own = identity(values, "cert-file", "key-file")?;
        let explicit = identity(values, "client-cert-file", "client-key-file")?;
        let ca = file(values, "trusted-ca-file").or_else(|| file(values, "ca-file"));
        let client = ClientTlsFiles {
            crl: file(values, "client-crl-file"),
            parameters: parameters(values)?,
            ..ClientTlsFiles::new(explicit.or(own), ca)
        };
        let peer = peer_client(values)?;
        let client = match client.identity {
            Some(_) => client,
            None if peer.identity.is_none() && peer.ca.is_none() => client,
            None => peer.clone(),
        };
        Ok(Upstream { client, peer })
    }
}
