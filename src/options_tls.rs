//! From the TLS flags to the files of the ports and of the calls to members, by etcd's rules.

mod peer;
mod self_signed;
#[cfg(test)]
mod tests;
mod upstream;

use std::path::PathBuf;

use keelson_store::config::{AllowedNames, ClientTlsFiles, TlsFiles, TlsParameters, Url};

use crate::flags::Values;
use crate::options::OptionsError;

pub(crate) use peer::{open_to_all, peer_tls};
pub(crate) use self_signed::SelfSigned;
pub(crate) use upstream::Upstream;

/// The flag's path, if it is given.
fn file(values: &Values, flag: &str) -> Option<PathBuf> {
    let path = Some(values.text(flag)).filter(|path| !path.is_empty());
    path.map(PathBuf::from)
}

/// A certificate with its key: both or neither.
fn identity(
    values: &Values,
    cert: &'static str,
    key: &'static str,
) -> Result<Option<(PathBuf, PathBuf)>, OptionsError> {
    match (file(values, cert), file(values, key)) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        _ => Err(OptionsError::HalfCertificate(cert, key)),
    }
}

/// The words of a list.
fn list(values: &Values, flag: &str) -> Vec<String> {
    let words = values.text(flag).split(',').map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// `--cipher-suites`, `--tls-min-version` and `--tls-max-version`.
fn parameters(values: &Values) -> Result<TlsParameters, OptionsError> {
    let text = |flag| values.text(flag);
    let [min, max, suites] = ["tls-min-version", "tls-max-version", "cipher-suites"].map(text);
    TlsParameters::parse(min, max, suites).map_err(OptionsError::TlsParameters)
}

/// What is presented to a discovery service, and trusted.
pub(crate) fn discovery(values: &Values) -> Result<ClientTlsFiles, OptionsError> {
    let own = identity(values, "discovery-cert", "discovery-key")?;
    Ok(ClientTlsFiles {
        trusts_any: values.boolean("discovery-insecure-skip-tls-verify"),
        ..ClientTlsFiles::new(own, file(values, "discovery-cacert"))
    })
}

/// A warning of suites that Go has and that are not served here.
pub(crate) fn unserved_suites(values: &Values) -> Option<String> {
    let parameters = parameters(values).ok()?;
    let unserved = parameters.unserved();
    (!unserved.is_empty()).then(|| {
        format!(
            "of --cipher-suites these are not served: {}. Those of TLS 1.3 cannot be chosen and \
             are always on; of TLS 1.2, ECDHE with AES-GCM and ChaCha20-Poly1305 are served",
            unserved.join(", ")
        )
    })
}

/// The client port's TLS.
#[derive(Debug, Default)]
pub(crate) struct ClientPort {
    /// The files, where a URL is https.
    pub(crate) files: Option<TlsFiles>,
    /// The certificate to be made first.
    pub(crate) self_signed: Option<SelfSigned>,
}

/// The TLS files for the https URLs of `urls`, and of `metrics`, which have the same certificate;
/// flags without effect cause a warning.
pub(crate) fn client_listeners(
    values: &Values,
    urls: &[Url],
    metrics: &[Url],
    warnings: &mut Vec<String>,
) -> Result<ClientPort, OptionsError> {
    let parameters = parameters(values)?;
    // Of an explicit client certificate nothing but its presence matters to a member.
    identity(values, "client-cert-file", "client-key-file")?;
    let flags = PortFlags {
        prefix: "",
        own: ["cert-file", "key-file"],
        auto: "auto-tls",
        directory: "client",
    };
    // etcd 2.3's old name stands for both `--trusted-ca-file` and `--client-cert-auth`.
    let old_ca = file(values, "ca-file");
    let auth = values.boolean("client-cert-auth") || old_ca.is_some();
    let Some((mut files, self_signed)) = flags.server(values, [urls, metrics], auth, warnings)?
    else {
        return Ok(ClientPort::default());
    };
    files.client_ca = file(values, "trusted-ca-file").or(old_ca);
    if auth && files.client_ca.is_none() {
        return Err(OptionsError::NoClientCa(
            "client-cert-auth",
            "trusted-ca-file",
        ));
    }
    // As in etcd, a CA alone makes certificates required, independent of --client-cert-auth.
    files.crl = file(values, "client-crl-file");
    files.allowed = AllowedNames {
        hosts: list(values, "client-cert-allowed-hostname"),
        ..AllowedNames::default()
    };
    files.parameters = parameters;
    warnings.extend(needs_ca(
        &files,
        ["client-crl-file", "client-cert-allowed-hostname"],
    ));
    Ok(ClientPort {
        files: Some(files),
        self_signed,
    })
}

/// A revocation list, and names, mean nothing where clients need no certificate.
fn needs_ca(files: &TlsFiles, flags: [&str; 2]) -> Option<String> {
    let unused = files.client_ca.is_none() && (files.crl.is_some() || !files.allowed.is_empty());
    unused.then(|| {
        format!(
            "--{} and --{} have no effect: without a trusted CA file no client certificate is \
             required",
            flags[0], flags[1]
        )
    })
}

/// The flags of a port's own certificate.
struct PortFlags {
    /// Before the flags' names: `peer-` or nothing.
    prefix: &'static str,
    own: [&'static str; 2],
    auto: &'static str,
    /// Below `fixtures`, for a generated certificate.
    directory: &'static str,
}

impl PortFlags {
    /// The certificate for the https URLs, given or to be made; `None` without such a URL. The
    /// second list is of ports that have no flags of their own.
    fn server(
        &self,
        values: &Values,
        [urls, others]: [&[Url]; 2],
        auth: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Option<(TlsFiles, Option<SelfSigned>)>, OptionsError> {
        let [cert, key] = self.own;
        let given = [cert, key].map(|flag| file(values, flag));
        let has_files = given.iter().any(Option::is_some);
        for url in urls.iter().filter(|url| !url.scheme().is_secure()) {
            warnings.extend(self.unused(url, has_files, auth));
        }
        let auto = values.boolean(self.auto);
        if auto && has_files {
            warnings.push(format!("ignoring --{} since certs given", self.auto));
        }
        let mut all = urls.iter().chain(others);
        let Some(url) = all.find(|url| url.scheme().is_secure()) else {
            return Ok(None);
        };
        match given {
            [Some(cert), Some(key)] => Ok(Some((TlsFiles::new(cert, key), None))),
            [None, None] if auto => {
                let all = [urls, others].concat();
                let signed = SelfSigned::new(values, self.directory, &all);
                Ok(Some((signed.files(), Some(signed))))
            }
            [None, None] => Err(OptionsError::NoCertificate(url.clone(), self.prefix)),
            _ => Err(OptionsError::HalfCertificate(cert, key)),
        }
    }

    /// etcd's warnings about TLS flags for a URL without TLS.
    fn unused(&self, url: &Url, files: bool, auth: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if files {
            warnings.push(format!(
                "scheme is HTTP while {}key and cert files are present; ignoring key and cert \
                 files for {url}",
                self.prefix.replace('-', " ")
            ));
        }
        if auth {
            warnings.push(format!(
                "scheme is HTTP while --{}client-cert-auth is enabled; ignoring client cert auth \
                 for {url}",
                self.prefix
            ));
        }
        warnings
    }
}
