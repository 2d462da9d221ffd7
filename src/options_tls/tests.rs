//! The rules of the flags.

use std::path::PathBuf;

use keelson_store::config::PeerTlsFiles;

use super::*;
use crate::flags::{Source, find};

fn values(flags: &[(&str, &str)]) -> Values {
    let mut values = Values::default();
    for (name, text) in flags {
        let flag = find(name).expect(name);
        let set = values.set(flag, (*text).to_owned(), Source::CommandLine);
        set.expect(text);
    }
    values
}

fn of(flags: &[(&str, &str)], urls: &str) -> (Result<Option<TlsFiles>, String>, usize) {
    let mut warnings = Vec::new();
    let urls = Url::parse_list(urls).expect(urls);
    let found = client_listeners(&values(flags), &urls, &[], &mut warnings);
    let found = found.map(|found| found.files);
    (found.map_err(|error| error.to_string()), warnings.len())
}

const FILES: [(&str, &str); 2] = [("cert-file", "c.pem"), ("key-file", "k.pem")];
const AUTH: (&str, &str) = ("client-cert-auth", "true");
const CA: (&str, &str) = ("trusted-ca-file", "ca.pem");

#[test]
fn https_needs_a_certificate_and_http_none() {
    let https = "https://127.0.0.1:1";
    let files = of(&FILES, https).0.expect("good").expect("https");
    assert_eq!(files, TlsFiles::new("c.pem", "k.pem"));
    let missing = of(&[], https).0.expect_err("no certificate");
    assert!(missing.starts_with("cannot listen on TLS for https://127.0.0.1:1"));
    assert!(of(&FILES[..1], https).0.is_err());
    assert_eq!(of(&FILES, "http://127.0.0.1:1"), (Ok(None), 1));
    assert_eq!(of(&[AUTH], "http://127.0.0.1:1"), (Ok(None), 1));
}

/// They needed an https client URL as well.
#[test]
fn https_for_metrics_alone_takes_the_clients_certificate() {
    let url = |text: &str| Url::parse_list(text).expect(text);
    let (client, metrics) = (url("http://127.0.0.1:1"), url("https://127.0.0.2:2"));
    let mut warnings = Vec::new();
    let mut of =
        |flags: &[(&str, &str)]| client_listeners(&values(flags), &client, &metrics, &mut warnings);
    let files = of(&FILES).expect("good").files.expect("https");
    assert_eq!(files, TlsFiles::new("c.pem", "k.pem"));
    let generated = of(&[("auto-tls", "true"), ("data-dir", "d")]).expect("good");
    assert_eq!(
        generated.self_signed.expect("made").hosts,
        ["127.0.0.1", "127.0.0.2"]
    );
    let missing = of(&[]).expect_err("no certificate").to_string();
    assert!(
        missing.starts_with("cannot listen on TLS for https://127.0.0.2:2"),
        "{missing}"
    );
}

#[test]
fn a_proxy_presents_what_is_for_peers_where_it_has_nothing_for_clients() {
    let mut flags = vec![("peer-cert-file", "pc")];
    let of = |flags: &[(&str, &str)]| {
        Upstream::from_values(&values(flags)).map_err(|error| error.to_string())
    };
    of(&flags).expect_err("half");
    flags.extend([("peer-key-file", "pk"), ("peer-trusted-ca-file", "pca")]);
    let only = of(&flags).expect("good");
    assert_eq!(only.peer.ca, Some(PathBuf::from("pca")));
    assert_eq!(only.client, only.peer);
    flags.push(("cert-file", "c"));
    of(&flags).expect_err("half");
    flags.push(("key-file", "k"));
    let both = of(&flags).expect("good");
    assert_eq!(both.client.identity, Some(("c".into(), "k".into())));
    assert_eq!((both.client.ca, both.peer), (None, only.peer));
    flags.extend([("client-cert-file", "cc"), ("client-key-file", "ck")]);
    flags.extend([
        ("peer-client-cert-file", "pcc"),
        ("peer-client-key-file", "pck"),
    ]);
    let explicit = of(&flags).expect("good");
    assert_eq!(explicit.client.identity, Some(("cc".into(), "ck".into())));
    assert_eq!(explicit.peer.identity, Some(("pcc".into(), "pck".into())));
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

#[test]
fn a_list_of_names_or_of_revocations_is_useless_without_an_authority() {
    let https = "https://127.0.0.1:1";
    let [cert, key] = FILES;
    let names = ("client-cert-allowed-hostname", "a.example, b.example");
    let crl = ("client-crl-file", "crl.pem");
    assert_eq!(of(&[cert, key, names], https).1, 1);
    assert_eq!(of(&[cert, key, crl], https).1, 1);
    let (files, warnings) = of(&[cert, key, names, crl, CA], https);
    let files = files.expect("good").expect("https");
    assert_eq!(warnings, 0);
    assert_eq!(files.allowed.hosts, ["a.example", "b.example"]);
    assert_eq!(files.crl, Some("crl.pem".into()));
}

#[test]
fn the_peer_port_has_rules_like_the_client_port_and_its_own() {
    let https = Url::parse_list("https://127.0.0.1:1").expect("a URL");
    let peer = |flags: &[(&str, &str)]| {
        let found = peer_tls(&values(flags), &https, &mut Vec::new());
        found.map_err(|error| error.to_string())
    };
    let missing = peer(&[]).expect_err("no certificate");
    assert!(missing.contains("--peer-cert-file"), "{missing}");
    let own = [("peer-cert-file", "c"), ("peer-key-file", "k")];
    let auth = ("peer-client-cert-auth", "true");
    let error = peer(&[own[0], own[1], auth]).expect_err("no authority");
    assert!(error.contains("--peer-trusted-ca-file"), "{error}");
    let ca = ("peer-trusted-ca-file", "ca");
    let cn = ("peer-cert-allowed-cn", "a,b");
    let (files, _) = peer(&[own[0], own[1], auth, ca, cn]).expect("good");
    let server = files.server.expect("https");
    assert!(server.checks_addresses);
    assert_eq!(server.client_ca, files.client.ca);
    assert_eq!(files.client.allowed.common_names, ["a", "b"]);
    assert_eq!(server.allowed, files.client.allowed);
    let skip = ("peer-skip-client-san-verification", "true");
    let (files, _) = peer(&[own[0], own[1], skip]).expect("good");
    assert!(!files.server.expect("https").checks_addresses);
    let both = peer(&[own[0], own[1], cn, ("peer-cert-allowed-hostname", "h")]);
    let both = both.expect_err("exclusive");
    assert!(both.contains("mutually exclusive"), "{both}");
}

#[test]
fn a_generated_certificate_is_for_the_hosts_of_its_port() {
    let mut warnings = Vec::new();
    let urls = Url::parse_list("https://127.0.0.1:1,https://127.0.0.1:2").expect("URLs");
    let auto = values(&[("auto-tls", "true"), ("data-dir", "d")]);
    let port = client_listeners(&auto, &urls, &[], &mut warnings).expect("good");
    let signed = port.self_signed.expect("it is made");
    assert_eq!(signed.hosts, ["127.0.0.1"]);
    assert_eq!(signed.years, 1);
    let cert = PathBuf::from("d/fixtures/client/cert.pem");
    assert_eq!(port.files.expect("https").cert, cert);
    let peers = values(&[("peer-auto-tls", "true"), ("data-dir", "d")]);
    let (files, signed) = peer_tls(&peers, &urls, &mut warnings).expect("good");
    assert!(files.client.trusts_any && signed.is_some());
    let given = [("peer-cert-file", "c"), ("peer-key-file", "k")];
    let given = values(&[("peer-auto-tls", "true"), given[0], given[1]]);
    let (files, signed) = peer_tls(&given, &urls, &mut warnings).expect("good");
    assert!(!files.client.trusts_any && signed.is_none());
    assert_eq!(warnings.len(), 1);
}

#[test]
fn a_peer_port_that_is_open_to_all_is_warned_of() {
    let with = |client_ca: Option<&str>| PeerTlsFiles {
        server: Some(TlsFiles {
            client_ca: client_ca.map(PathBuf::from),
            ..TlsFiles::new("c", "k")
        }),
        ..PeerTlsFiles::default()
    };
    let (none, open, closed) = (PeerTlsFiles::default(), with(None), with(Some("ca")));
    for (urls, tls, warned) in [
        ("http://0.0.0.0:2380", &none, Some("without TLS")),
        ("https://0.0.0.0:2380", &open, Some("without a certificate")),
        ("https://0.0.0.0:2380", &closed, None),
        ("http://0.0.0.0:2380", &closed, Some("without TLS")),
        ("http://[::]:2380", &none, Some("without TLS")),
        ("http://127.0.0.1:2380", &none, None),
    ] {
        let urls = Url::parse_list(urls).expect("URLs");
        let text = open_to_all(&urls, tls);
        let found = text
            .as_deref()
            .zip(warned)
            .map(|(text, part)| text.contains(part));
        assert_eq!(found, warned.map(|_| true), "{urls:?}: {text:?}");
        assert_eq!(text.is_some(), warned.is_some(), "{urls:?}: {text:?}");
    }
}
