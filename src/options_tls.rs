//! From the TLS flags to the files of the client port, by etcd's rules.

use std::path::PathBuf;

use keelson_proxy::ClientTlsFiles;
use keelson_store::config::Url;
use keelson_store::edge::TlsFiles;

use crate::flags::Values;
use crate::options::OptionsError;

/// A proxy uses these for connections to members. A member does not, yet.
pub(crate) const OF_PEERS: [&str; 5] = [
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "peer-ca-file",
    "peer-client-cert-auth",
];

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
        let client = files(
            values,
            ["cert-file", "key-file", "trusted-ca-file", "ca-file"],
        )?;
        let peer = files(
            values,
            [
                "peer-cert-file",
                "peer-key-file",
                "peer-trusted-ca-file",
                "peer-ca-file",
            ],
        )?;
        let client = match client.identity {
            Some(_) => client,
            None if peer == ClientTlsFiles::default() => client,
            None => peer.clone(),
        };
        Ok(Upstream { client, peer })
    }
}

fn files(
    values: &Values,
    [cert, key, ca, old_ca]: [&'static str; 4],
) -> Result<ClientTlsFiles, OptionsError> {
    let identity = match (file(values, cert), file(values, key)) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(OptionsError::HalfCertificate(cert, key)),
    };
    let ca = file(values, ca).or_else(|| file(values, old_ca));
    Ok(ClientTlsFiles { identity, ca })
}

fn file(values: &Values, flag: &str) -> Option<PathBuf> {
    let path = Some(values.text(flag)).filter(|path| !path.is_empty());
    path.map(PathBuf::from)
}

/// The TLS files for the https URLs of `urls`; flags without effect cause a warning.
pub(crate) fn client_listeners(
    values: &Values,
    urls: &[Url],
    warnings: &mut Vec<String>,
) -> Result<Option<TlsFiles>, OptionsError> {
    let secure = urls.iter().find(|url| url.scheme().is_secure());
    let wanted = [file(values, "cert-file"), file(values, "key-file")];
    // etcd 2.3's old name stands for both `--trusted-ca-file` and `--client-cert-auth`.
    let old_ca = file(values, "ca-file");
    let auth = values.boolean("client-cert-auth") || old_ca.is_some();
    for url in urls.iter().filter(|url| !url.scheme().is_secure()) {
        warnings.extend(unused_tls_warnings(
            url,
            wanted.iter().any(Option::is_some),
            auth,
        ));
    }
    let Some(url) = secure else {
        return Ok(None);
    };
    let (cert, key) = match wanted {
        [Some(cert), Some(key)] => (cert, key),
        [None, None] => return Err(OptionsError::NoCertificate(url.clone())),
        _ => return Err(OptionsError::HalfCertificate("cert-file", "key-file")),
    };
    let client_ca = file(values, "trusted-ca-file").or(old_ca);
    if auth && client_ca.is_none() {
        return Err(OptionsError::NoClientCa);
    }
    // As in etcd, a CA alone makes certificates required, independent of --client-cert-auth.
    Ok(Some(TlsFiles {
        cert,
        key,
        client_ca,
    }))
}

/// etcd's warnings about TLS flags for a URL without TLS.
fn unused_tls_warnings(url: &Url, files: bool, auth: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if files {
        warnings.push(format!(
            "scheme is HTTP while key and cert files are present; ignoring key and cert files for \
             {url}"
        ));
    }
    if auth {
        warnings.push(format!(
            "scheme is HTTP while --client-cert-auth is enabled; ignoring client cert auth for \
             {url}"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Source, find};

    fn of(flags: &[(&str, &str)], urls: &str) -> (Result<Option<TlsFiles>, String>, usize) {
        let mut values = Values::default();
        for (name, text) in flags {
            let flag = find(name).expect(name);
            values
                .set(flag, (*text).to_owned(), Source::CommandLine)
                .expect(text);
        }
        let mut warnings = Vec::new();
        let urls = Url::parse_list(urls).expect(urls);
        let found = client_listeners(&values, &urls, &mut warnings);
        (found.map_err(|error| error.to_string()), warnings.len())
    }

    const FILES: [(&str, &str); 2] = [("cert-file", "c.pem"), ("key-file", "k.pem")];
    const AUTH: (&str, &str) = ("client-cert-auth", "true");
    const CA: (&str, &str) = ("trusted-ca-file", "ca.pem");

    #[test]
    fn https_needs_a_certificate_and_http_none() {
        let https = "https://127.0.0.1:1";
        let files = of(&FILES, https).0.expect("good").expect("https");
        assert_eq!(files.cert, PathBuf::from("c.pem"));
        assert_eq!(files.key, PathBuf::from("k.pem"));
        assert_eq!(files.client_ca, None);
        let missing = of(&[], https).0.expect_err("no certificate");
        assert!(missing.starts_with("cannot listen on TLS for https://127.0.0.1:1"));
        assert!(of(&FILES[..1], https).0.is_err());
        assert_eq!(of(&FILES, "http://127.0.0.1:1"), (Ok(None), 1));
        assert_eq!(of(&[AUTH], "http://127.0.0.1:1"), (Ok(None), 1));
    }

    #[test]
    fn a_proxy_presents_what_is_for_peers_where_it_has_nothing_for_clients() {
        let mut values = Values::default();
        let mut set = |name: &str, text: &str| {
            let flag = find(name).expect(name);
            values
                .set(flag, text.to_owned(), Source::CommandLine)
                .expect(text);
            Upstream::from_values(&values).map_err(|error| error.to_string())
        };
        set("peer-cert-file", "pc").expect_err("half");
        set("peer-key-file", "pk").expect("both");
        let only = set("peer-trusted-ca-file", "pca").expect("good");
        assert_eq!(only.peer.ca, Some(PathBuf::from("pca")));
        assert_eq!(only.client, only.peer);
        set("cert-file", "c").expect_err("half");
        let both = set("key-file", "k").expect("good");
        assert_eq!(both.client.identity, Some(("c".into(), "k".into())));
        assert_eq!((both.client.ca, both.peer), (None, only.peer));
    }

    #[test]
    fn the_authority_alone_asks_for_certificates() {
        let https = "https://127.0.0.1:1,http://127.0.0.1:2";
        let [cert, key] = FILES;
        assert!(of(&[cert, key, AUTH], https).0.is_err());
        let old = ("ca-file", "ca.pem");
        for flags in [
            vec![cert, key, CA],
            vec![cert, key, CA, AUTH],
            vec![cert, key, old],
        ] {
            let files = of(&flags, https).0.expect("good").expect("https");
            assert_eq!(files.client_ca, Some(PathBuf::from("ca.pem")));
        }
    }
}
