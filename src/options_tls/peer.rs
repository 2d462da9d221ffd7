//! TLS between members.

use keelson_store::config::{AllowedNames, ClientTlsFiles, PeerTlsFiles, Url};

use super::{PortFlags, SelfSigned, file, identity, list, needs_ca, parameters};
use crate::flags::Values;
use crate::options::OptionsError;

/// The files of the peer port and of the calls to peers, and the certificate to be made first.
pub(crate) fn peer_tls(
    values: &Values,
    listen: &[Url],
    warnings: &mut Vec<String>,
) -> Result<(PeerTlsFiles, Option<SelfSigned>), OptionsError> {
    let flags = PortFlags {
        prefix: "peer-",
        own: ["peer-cert-file", "peer-key-file"],
        auto: "peer-auto-tls",
        directory: "peer",
    };
    let client = peer_client(values)?;
    let old_ca = file(values, "peer-ca-file");
    let auth = values.boolean("peer-client-cert-auth") || old_ca.is_some();
    let Some((mut server, self_signed)) = flags.server(values, [listen, &[]], auth, warnings)?
    else {
        let server = None;
        return Ok((PeerTlsFiles { server, client }, None));
    };
    server.client_ca.clone_from(&client.ca);
    if auth && server.client_ca.is_none() {
        let flags = ("peer-client-cert-auth", "peer-trusted-ca-file");
        return Err(OptionsError::NoClientCa(flags.0, flags.1));
    }
    let skips = ["", "experimental-"];
    let skips = skips.map(|before| format!("{before}peer-skip-client-san-verification"));
    server.checks_addresses = !skips.iter().any(|flag| values.boolean(flag));
    server.crl.clone_from(&client.crl);
    server.allowed.clone_from(&client.allowed);
    server.parameters.clone_from(&client.parameters);
    warnings.extend(needs_ca(&server, ["peer-crl-file", "peer-cert-allowed-*"]));
    let server = Some(server);
    Ok((PeerTlsFiles { server, client }, self_signed))
}

/// The files for calls to peer URLs, of members and proxies.
pub(super) fn peer_client(values: &Values) -> Result<ClientTlsFiles, OptionsError> {
    let own = identity(values, "peer-cert-file", "peer-key-file")?;
    let explicit = identity(values, "peer-client-cert-file", "peer-client-key-file")?;
    let allowed = AllowedNames {
        common_names: list(values, "peer-cert-allowed-cn"),
        hosts: list(values, "peer-cert-allowed-hostname"),
    };
    if !allowed.common_names.is_empty() && !allowed.hosts.is_empty() {
        return Err(OptionsError::AllowedNames(allowed));
    }
    let is_auto = values.boolean("peer-auto-tls") && own.is_none();
    let ca = file(values, "peer-trusted-ca-file").or_else(|| file(values, "peer-ca-file"));
    Ok(ClientTlsFiles {
        identity: explicit.or(own),
        // As in etcd: generated certificates are signed by no CA.
        trusts_any: is_auto && ca.is_none(),
        ca,
        crl: file(values, "peer-crl-file"),
        allowed,
        parameters: parameters(values)?,
        ..ClientTlsFiles::default()
    })
}

/// A warning of a peer port that any host can reach: without TLS, or with TLS that verifies no
/// caller.
pub(crate) fn open_to_all(listen: &[Url], tls: &PeerTlsFiles) -> Option<String> {
    let verifies = tls
        .server
        .as_ref()
        .is_some_and(|files| files.client_ca.is_some());
    let is_open = |url: &&Url| {
        let is_all = url.ip().is_some_and(|ip| ip.is_unspecified());
        is_all && !(verifies && url.scheme().is_secure())
    };
    let url = listen.iter().find(is_open)?;
    let port = url.port();
    let (lack, flags) = match url.scheme().is_secure() {
        true => (
            "and admits callers without a certificate",
            "--peer-trusted-ca-file and --peer-client-cert-auth",
        ),
        false => (
            "without TLS",
            "--peer-cert-file, --peer-key-file, --peer-trusted-ca-file and --peer-client-cert-auth",
        ),
    };
    Some(format!(
        "{url} in --listen-peer-urls is open on all addresses, {lack}: give {flags}, or admit \
         members and proxies alone to it, as with `nft add rule inet filter input tcp dport {port} \
         ip saddr != {{ MEMBERS, PROXIES }} drop`"
    ))
}
