//! TLS, over real sockets.

use std::convert::Infallible;
use std::fs;
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{self, ServerTls, TlsError, TlsFiles};
use crate::{ClientName, Incoming, Limits, Listener, Serve, Socket};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a root, and certificates of it.
struct Certificates {
    dir: TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Certificates {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), root.pem()).unwrap();
        Certificates { dir, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `name.pem` and `name-key.pem`.
    fn issue(&self, name: &str) -> TlsFiles {
        self.issue_to(name, None)
    }

    fn issue_to(&self, name: &str, common_name: Option<&str>) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            let kind = rcgen::DnType::CommonName;
            params.distinguished_name.push(kind, name);
        }
        let certificate = params.signed_by(&key, &self.root).unwrap();
        let files = TlsFiles {
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}-key.pem")),
            ..TlsFiles::default()
        };
        fs::write(&files.cert, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn roots(&self) -> RootCertStore {
        tls::roots(&self.path("ca.pem")).unwrap()
    }

    /// Connects, offering one protocol, and a certificate if there is one.
    async fn connect(
        &self,
        port: u16,
        alpn: &str,
        own: Option<&TlsFiles>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match own {
            Some(own) => {
                let (chain, key) = tls::identity(&own.cert, &own.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        timeout(PATIENCE, connector.connect(name, socket)).await?
    }
}

/// Answers with the HTTP version of the request.
struct Versions;

impl Serve for Versions {
    type Body = Full<Bytes>;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let version = match request.version() {
            Version::HTTP_2 => "two",
            _ => "one",
        };
        let name = request.extensions().get::<ClientName>();
        let name = name.map_or("", ClientName::as_str);
        let text = format!("{name}{version}");
        ready(Ok(Response::new(Full::new(Bytes::from(text)))))
    }
}

async fn serve(files: TlsFiles) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let tls = Some(ServerTls::new(files).unwrap());
    serve_on(Listener::new(socket, tls));
    port
}

pub(super) fn serve_on(listener: Listener) {
    serve_within(listener, Limits::default());
}

pub(super) fn serve_within(listener: Listener, limits: Limits) {
    let (listeners, never) = (vec![listener], std::future::pending());
    tokio::spawn(crate::serve(listeners, Versions, limits, never));
}

/// The answer to a request of HTTP/1.1, up to the end of its body.
async fn one(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<String> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await?;
    let mut read = vec![];
    while !read.ends_with(b"one") {
        read.push(timeout(PATIENCE, stream.read_u8()).await??);
    }
    Ok(String::from_utf8(read).unwrap())
}

#[tokio::test]
async fn http_1_is_served_more_than_once() {
    let certificates = Certificates::new();
    let port = serve(certificates.issue("server")).await;
    let mut stream = certificates.connect(port, "http/1.1", None).await.unwrap();
    for _ in 0..2 {
        let answer = one(&mut stream).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn http_2_is_served_where_it_is_agreed_on() {
    let certificates = Certificates::new();
    let port = serve(certificates.issue("server")).await;
    let stream = certificates.connect(port, "h2", None).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "two");
}

/// The certificate was verified against the CA.
#[tokio::test]
async fn the_name_in_a_clients_certificate_comes_with_its_requests() {
    let certificates = Certificates::new();
    let files = TlsFiles {
        client_ca: Some(certificates.path("ca.pem")),
        ..certificates.issue("server")
    };
    let port = serve(files).await;
    for name in [Some("alice"), Some(""), None] {
        let own = certificates.issue_to("client", name);
        let mut stream = certificates
            .connect(port, "http/1.1", Some(&own))
            .await
            .unwrap();
        let answer = one(&mut stream).await.unwrap();
        assert!(
            answer.ends_with(&format!("{}one", name.unwrap_or(""))),
            "{answer}"
        );
        let stream = certificates.connect(port, "h2", Some(&own)).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://localhost/").body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, format!("{}two", name.unwrap_or("")));
    }
}

/// etcd serves an address that is listed as http and as https in this way.
#[tokio::test]
async fn one_port_serves_http_with_and_without_tls() {
    let certificates = Certificates::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let tls = Some(ServerTls::new(certificates.issue("server")).unwrap());
    serve_on(Listener {
        both: true,
        ..Listener::new(socket, tls)
    });
    let mut stream = certificates.connect(port, "http/1.1", None).await.unwrap();
    assert!(one(&mut stream).await.unwrap().ends_with("one"));
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert!(one(&mut socket).await.unwrap().ends_with("one"));
}

#[tokio::test]
async fn a_unix_socket_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    serve_on(Listener::new(Socket::unix(&path).unwrap(), None));
    let mut socket = crate::connect_unix(path.to_str().unwrap()).await.unwrap();
    for _ in 0..2 {
        assert!(one(&mut socket).await.unwrap().ends_with("one"));
    }
}

/// Made by openssl, valid for 500 years: rcgen signs with ring, which does not have the curve.
#[tokio::test]
async fn a_key_of_p_521_is_served_and_its_certificate_verified() {
    let certificates = Certificates::new();
    let files = |name: &str, key: &str| TlsFiles {
        cert: certificates.path(&format!("{name}.pem")),
        key: certificates.path(&format!("{key}.pem")),
        ..TlsFiles::default()
    };
    for (name, text) in [
        ("ca", include_str!("p521/certificate.pem")),
        ("sec1", include_str!("p521/sec1.pem")),
        ("pkcs8", include_str!("p521/pkcs8.pem")),
    ] {
        fs::write(certificates.path(&format!("{name}.pem")), text).unwrap();
    }
    for key in ["sec1", "pkcs8"] {
        let port = serve(files("ca", key)).await;
        let mut stream = certificates.connect(port, "http/1.1", None).await.unwrap();
        assert!(one(&mut stream).await.unwrap().ends_with("one"), "{key}");
    }
    // Another certificate's key.
    let other = certificates.issue("other");
    let error = ServerTls::new(TlsFiles {
        cert: other.cert,
        ..files("ca", "sec1")
    });
    assert!(matches!(error, Err(TlsError::Unusable { .. })));
}

#[tokio::test]
async fn who_does_not_speak_tls_is_answered_as_by_gos_servers() {
    let certificates = Certificates::new();
    let port = serve(certificates.issue("server")).await;
    let answer =
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for (opening, expected) in [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", answer),
        ("PRI * HTTP/2.0\r\n", ""),
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(opening.as_bytes()).await.unwrap();
        let mut read = vec![];
        socket.shutdown().await.unwrap();
        // A reset is as good as an end: what was sent has not been read.
        let _ = timeout(PATIENCE, socket.read_to_end(&mut read))
            .await
            .unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), expected, "{opening}");
    }
}

/// A client reported only that the connection was closed.
#[tokio::test]
async fn who_speaks_tls_to_a_port_without_gets_an_alert() {
    let certificates = Certificates::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    serve_on(Listener::new(socket, None));
    let error = certificates.connect(port, "h2", None).await.unwrap_err();
    assert!(
        error.to_string().contains("alert: HandshakeFailure"),
        "{error}"
    );
}

#[tokio::test]
async fn clients_need_a_certificate_where_a_root_for_them_is_given() {
    let certificates = Certificates::new();
    let mut files = certificates.issue("server");
    files.client_ca = Some(certificates.path("ca.pem"));
    let port = serve(files).await;
    let right = certificates.issue("client");
    let wrong = Certificates::new().issue_elsewhere(&certificates);
    for (own, served) in [(Some(&right), true), (Some(&wrong), false), (None, false)] {
        // TLS 1.3: the client detects it only when it reads.
        let mut answer = Err(std::io::ErrorKind::NotConnected.into());
        if let Ok(mut stream) = certificates.connect(port, "http/1.1", own).await {
            answer = one(&mut stream).await;
        }
        assert_eq!(answer.is_ok(), served, "{own:?} {answer:?}");
    }
}

impl Certificates {
    /// A certificate of this root in the other's directory.
    fn issue_elsewhere(self, other: &Certificates) -> TlsFiles {
        let files = self.issue("wrong");
        let moved = TlsFiles {
            cert: other.path("wrong.pem"),
            key: other.path("wrong-key.pem"),
            ..TlsFiles::default()
        };
        fs::copy(files.cert, &moved.cert).unwrap();
        fs::copy(files.key, &moved.key).unwrap();
        moved
    }
}

#[test]
fn a_bad_file_is_named() {
    let certificates = Certificates::new();
    let good = certificates.issue("good");
    let other = certificates.issue("other");
    let empty = certificates.path("empty.pem");
    fs::write(&empty, "").unwrap();
    let damaged = certificates.path("damaged.pem");
    let text = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    fs::write(&damaged, text).unwrap();
    let gone = certificates.path("gone.pem");
    let cases = [
        (&gone, &good.key, "cannot read", "gone.pem"),
        (&empty, &good.key, "no certificate in it", "empty.pem"),
        (&damaged, &good.key, "is not PEM", "damaged.pem"),
        (&good.cert, &empty, "no private key in it", "empty.pem"),
        (&good.cert, &good.cert, "no private key in it", "good.pem"),
        (&good.cert, &other.key, "cannot use", "other-key.pem"),
    ];
    for (cert, key, what, name) in cases {
        let files = TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            ..TlsFiles::default()
        };
        let error = ServerTls::new(files).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(name), "{error}");
    }
    let mut files = good;
    files.client_ca = Some(gone);
    let error = ServerTls::new(files).unwrap_err();
    assert!(matches!(error, TlsError::Unreadable { .. }), "{error}");
}

#[test]
fn files_are_read_once_for_each_change() {
    let certificates = Certificates::new();
    let files = certificates.issue("server");
    let tls = ServerTls::new(files.clone()).unwrap();
    let first = tls.config();
    assert!(Arc::ptr_eq(&first, &tls.config()));
    // The former certificate is in use with what else is new, and that is tried once.
    touch(&files.cert, "nothing");
    let former = tls.config();
    assert!(Arc::ptr_eq(&former, &tls.config()));
    let new = certificates.issue("new");
    touch(&files.key, &fs::read_to_string(new.key).unwrap());
    touch(&files.cert, &fs::read_to_string(new.cert).unwrap());
    assert!(!Arc::ptr_eq(&former, &tls.config()));
}

/// Writes it, at another time than before.
pub(super) fn touch(path: &std::path::Path, text: &str) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, text).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(before + Duration::from_secs(1)).unwrap();
}
