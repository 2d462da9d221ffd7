//! Which certificates are accepted, of clients and of servers, and the files that change.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::tls::{PATIENCE, serve_on, serve_within, touch};
use crate::tls::{AllowedNames, ClientTls, ClientTlsFiles, Protocol, ServerTls, TlsFiles};
use crate::{Limits, Listener, reload_files};

type Change = fn(&mut CertificateParams);

/// An authority with a directory for files.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { dir, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for localhost with serial number 7.
    fn issue(&self, name: &str, change: Change) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(7));
        params.distinguished_name.push(DnType::CommonName, "right");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}-key.pem")),
        );
        fs::write(&files.0, certificate.pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    /// The text of a list that revokes the serial numbers.
    fn revocations(&self, serials: &[u64]) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(60),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A listener that requires this authority's certificates.
    fn server_files(&self) -> TlsFiles {
        let (cert, key) = self.issue("server", |_| {});
        TlsFiles {
            client_ca: Some(self.path("ca.pem")),
            ..TlsFiles::new(cert, key)
        }
    }

    fn client_files(&self, own: (PathBuf, PathBuf)) -> ClientTlsFiles {
        ClientTlsFiles::new(Some(own), Some(self.path("ca.pem")))
    }
}

async fn serve(files: TlsFiles) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    serve_on(Listener::new(socket, Some(ServerTls::new(files).unwrap())));
    port
}

/// Whether a request on a new connection is answered.
async fn answers(client: &ClientTls, port: u16) -> bool {
    let exchange = async {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut stream = client.connect("localhost", Protocol::Http1, socket).await?;
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answered = timeout(PATIENCE, exchange).await.expect("an end");
    answered.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

const WRONG: [(&str, Change); 4] = [
    ("expired", |params| {
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.not_after = OffsetDateTime::now_utc() - Duration::from_secs(60);
    }),
    ("not yet valid", |params| {
        params.not_before = OffsetDateTime::now_utc() + Duration::from_secs(3600);
    }),
    ("another host's", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("a.example".try_into().unwrap())];
    }),
    ("without the name", |params| {
        params.distinguished_name.push(DnType::CommonName, "wrong");
    }),
];

/// A name is required of both sides, as `--peer-cert-allowed-cn` does.
#[tokio::test]
async fn a_wrong_certificate_is_refused_on_both_sides() {
    let ca = Authority::new();
    let allowed = AllowedNames {
        common_names: vec!["right".to_owned()],
        ..AllowedNames::default()
    };
    let server = TlsFiles {
        allowed: allowed.clone(),
        checks_addresses: true,
        ..ca.server_files()
    };
    let client = |own| {
        let files = ClientTlsFiles {
            allowed: allowed.clone(),
            ..ca.client_files(own)
        };
        ClientTls::new(files).unwrap()
    };
    let port = serve(server.clone()).await;
    let right = client(ca.issue("right", |_| {}));
    assert!(answers(&right, port).await);
    for (what, change) in WRONG {
        let own = ca.issue(what, change);
        assert!(
            !answers(&client(own.clone()), port).await,
            "a client's, {what}"
        );
        let (cert, key) = own;
        let wrong = TlsFiles {
            cert,
            key,
            ..server.clone()
        };
        let port = serve(wrong).await;
        assert!(!answers(&right, port).await, "a server's, {what}");
    }
    let stranger = Authority::new();
    let own = stranger.issue("right", |_| {});
    assert!(!answers(&client(own), port).await, "of another authority");
    let none = ClientTlsFiles::new(None, Some(ca.path("ca.pem")));
    assert!(!answers(&ClientTls::new(none).unwrap(), port).await);
}

#[tokio::test]
async fn hosts_that_are_allowed_are_those_of_the_certificate() {
    let ca = Authority::new();
    let client = ClientTls::new(ca.client_files(ca.issue("client", |_| {}))).unwrap();
    for (host, served) in [("localhost", true), ("right", false)] {
        let allowed = AllowedNames {
            hosts: vec!["a.example".to_owned(), host.to_owned()],
            ..AllowedNames::default()
        };
        let files = TlsFiles {
            allowed,
            ..ca.server_files()
        };
        let port = serve(files).await;
        assert_eq!(answers(&client, port).await, served, "{host}");
    }
}

/// GHSA-6vch: a client that stopped within its handshake held a connection of etcd.
#[tokio::test]
async fn a_handshake_that_stops_is_ended() {
    let ca = Authority::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let tls = ServerTls::new(ca.server_files()).unwrap();
    let limits = Limits {
        first_bytes_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    serve_within(Listener::new(socket, Some(tls)), limits);
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // The head of a ClientHello's record, and a part of the record.
    client.write_all(&[0x16, 3, 1, 1, 0, 1]).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, client.read_to_end(&mut rest));
    let _reset = ended.await.expect("the port ends it");
}

/// GHSA-3wh4: a revoked certificate was accepted by etcd. The list is read again when it changes,
/// by a running server and by a client.
#[tokio::test]
async fn a_revoked_certificate_is_refused_from_the_next_handshake_on() {
    let ca = Authority::new();
    let crl = ca.path("crl.pem");
    fs::write(&crl, ca.revocations(&[8])).unwrap();
    let files = TlsFiles {
        crl: Some(crl.clone()),
        ..ca.server_files()
    };
    let port = serve(files).await;
    let own = ca.issue("client", |_| {});
    let plain = ClientTls::new(ca.client_files(own.clone())).unwrap();
    let files = ClientTlsFiles {
        crl: Some(crl.clone()),
        ..ca.client_files(own)
    };
    let checking = ClientTls::new(files).unwrap();
    assert!(answers(&plain, port).await && answers(&checking, port).await);
    // Damage keeps the former list.
    touch(
        &crl,
        "-----BEGIN X509 CRL-----\n!!!\n-----END X509 CRL-----\n",
    );
    assert!(answers(&plain, port).await);
    touch(&crl, &ca.revocations(&[8, 7]));
    assert!(!answers(&plain, port).await);
    let open = ca.server_files();
    let port = serve(TlsFiles {
        client_ca: None,
        ..open
    })
    .await;
    assert!(answers(&plain, port).await);
    assert!(!answers(&checking, port).await, "the server's is revoked");
}

/// The second list of a CA had no effect, and neither had one of another issuer.
#[tokio::test]
async fn a_serial_number_in_any_list_is_revoked() {
    let (ca, other) = (Authority::new(), Authority::new());
    let crl = ca.path("crl.pem");
    let files = TlsFiles {
        crl: Some(crl.clone()),
        ..ca.server_files()
    };
    fs::write(&crl, ca.revocations(&[8])).unwrap();
    let port = serve(files).await;
    let client = ClientTls::new(ca.client_files(ca.issue("client", |_| {}))).unwrap();
    assert!(answers(&client, port).await);
    touch(
        &crl,
        &format!("{}{}", ca.revocations(&[8]), ca.revocations(&[7])),
    );
    assert!(!answers(&client, port).await, "the second list");
    touch(&crl, &ca.revocations(&[9]));
    assert!(answers(&client, port).await);
    touch(&crl, &other.revocations(&[7]));
    assert!(!answers(&client, port).await, "a list of another issuer");
}

/// A revocation had no effect while certificate and key did not match.
#[tokio::test]
async fn a_revocation_does_not_wait_for_a_certificate_that_can_be_used() {
    let ca = Authority::new();
    let crl = ca.path("crl.pem");
    fs::write(&crl, ca.revocations(&[8])).unwrap();
    let files = TlsFiles {
        crl: Some(crl.clone()),
        ..ca.server_files()
    };
    let port = serve(files.clone()).await;
    let client = ClientTls::new(ca.client_files(ca.issue("client", |_| {}))).unwrap();
    assert!(answers(&client, port).await);
    touch(&files.key, "no key");
    assert!(answers(&client, port).await, "the former identity");
    touch(&crl, &ca.revocations(&[7]));
    assert!(!answers(&client, port).await);
}

/// Replaces an authority while a client of each connects. `bundle` makes the text of a file from
/// authorities. Returns what fails.
async fn replaced(bundle: impl Fn(&[&Authority]) -> String) -> Result<(), &'static str> {
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.server_files();
    let path = files.client_ca.clone().unwrap();
    let port = serve(files.clone()).await;
    let of = |ca: &Authority| {
        let own = ca.issue("client", |_| {});
        ClientTls::new(ClientTlsFiles::new(Some(own), Some(path.clone()))).unwrap()
    };
    let (former, next) = (of(&old), of(&new));
    let holds = |what, is: bool| if is { Ok(()) } else { Err(what) };
    holds("the old one", answers(&former, port).await)?;
    holds("the new one too early", !answers(&next, port).await)?;
    touch(&path, &bundle(&[&old, &new]));
    holds("the old one with the new one", answers(&former, port).await)?;
    holds("the new one with the old one", answers(&next, port).await)?;
    // The port's own certificate, of the new authority.
    let (cert, key) = new.issue("server", |_| {});
    touch(&files.key, &fs::read_to_string(key).unwrap());
    let former_pair = answers(&former, port).await;
    holds("key and certificate that do not match yet", former_pair)?;
    touch(&files.cert, &fs::read_to_string(cert).unwrap());
    holds("the old one at the new one", answers(&former, port).await)?;
    holds("the new one at itself", answers(&next, port).await)?;
    touch(&path, "");
    holds("an empty file", answers(&former, port).await)?;
    touch(&path, &bundle(&[&new]));
    holds("the old one is gone", !answers(&former, port).await)?;
    holds("the new one alone", answers(&next, port).await)
}

fn pem(ca: &Authority) -> String {
    ca.issuer.pem()
}

/// Both authorities are valid while the file has both: no request of either fails.
#[tokio::test]
async fn an_authority_is_replaced_without_a_failed_request() {
    let all = |of: &[&Authority]| of.iter().map(|ca| pem(ca)).collect::<String>();
    assert_eq!(replaced(all).await, Ok(()));
}

/// Mutants of the reload, by the files that they would have seen: one keeps the first authority of
/// a file alone, one the last.
#[tokio::test]
async fn a_reload_that_drops_an_authority_is_caught() {
    let first = |of: &[&Authority]| pem(of.first().unwrap());
    let last = |of: &[&Authority]| pem(of.last().unwrap());
    let caught = (replaced(first).await, replaced(last).await);
    let by = "the new one with the old one";
    assert_eq!(caught, (Err(by), Err("the old one with the new one")));
}

/// A file that was replaced by one of the same size within the clock's tick has the same times.
#[tokio::test]
async fn a_signal_has_files_read_again_that_seem_unchanged() {
    let ca = Authority::new();
    let files = ca.server_files();
    let tls = ServerTls::new(files).unwrap();
    let before = tls.config();
    assert!(std::sync::Arc::ptr_eq(&before, &tls.config()));
    assert!(reload_files());
    assert!(!std::sync::Arc::ptr_eq(&before, &tls.config()));
}

#[tokio::test]
async fn a_client_that_trusts_any_server_needs_no_authority() {
    let ca = Authority::new();
    let files = ca.server_files();
    let port = serve(TlsFiles {
        client_ca: None,
        ..files
    })
    .await;
    for (trusts_any, answered) in [(true, true), (false, false)] {
        let files = ClientTlsFiles {
            trusts_any,
            identity: Some(ca.issue("client", |_| {})),
            ..ClientTlsFiles::default()
        };
        let client = ClientTls::new(files);
        let got = match client {
            Ok(client) => answers(&client, port).await,
            // A system without any CA.
            Err(_) => false,
        };
        assert_eq!(got, answered);
    }
}
