//! TLS on both sides: towards clients, and towards members.

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_port::{Incoming, Limits, Listener, Protocol, Serve, ServerTls, TlsFiles, TlsSocket};
use keelson_proxy::{ClientTls, ClientTlsFiles, MembersFrom, ProxyConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// A root, a certificate of it, and both in files.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Certificates {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &root).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", root.pem());
        write("cert.pem", certificate.pem());
        write("key.pem", key.serialize_pem());
        Certificates(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn server(&self, asks: bool) -> ServerTls {
        let files = TlsFiles {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            client_ca: asks.then(|| self.path("ca.pem")),
            ..TlsFiles::default()
        };
        ServerTls::new(files).unwrap()
    }

    pub(crate) fn client(&self, presents: bool) -> ClientTls {
        let own = (self.path("cert.pem"), self.path("key.pem"));
        let files = ClientTlsFiles::new(presents.then_some(own), Some(self.path("ca.pem")));
        ClientTls::new(files).unwrap()
    }
}

/// A member with a key, an event and a call.
struct Member;

impl Serve for Member {
    type Body = Full<Bytes>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(async move {
            let two = request.version() == Version::HTTP_2;
            let (parts, body) = request.into_parts();
            let sent = body.collect().await.unwrap().to_bytes();
            let waits = parts
                .uri
                .query()
                .is_some_and(|query| query.contains("wait"));
            let text = match parts.uri.path() {
                "/etcdserverpb.KV/Range" if two => sent,
                "/members" => Bytes::from_static(b"[]"),
                _ if waits => {
                    sleep(Duration::from_millis(300)).await;
                    Bytes::from_static(b"{\"node\":{\"modifiedIndex\":4}}\n")
                }
                _ => Bytes::from(format!("{} {}", parts.method, sent.len())),
            };
            let mut response = Response::new(Full::new(text));
            if two {
                let headers = response.headers_mut();
                headers.insert("grpc-status", http::HeaderValue::from_static("0"));
            }
            Ok(response)
        })
    }
}

async fn listen(tls: ServerTls) -> (SocketAddr, Listener) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let tls = Some(tls);
    (address, Listener::new(socket, tls))
}

/// A proxy before a member.
async fn start(member: ServerTls, client_tls: ClientTls, proxy: ServerTls) -> SocketAddr {
    start_both(member, client_tls, proxy).await.1
}

/// A member, and a proxy before it.
pub(crate) async fn start_both(
    member: ServerTls,
    client_tls: ClientTls,
    proxy: ServerTls,
) -> (SocketAddr, SocketAddr) {
    let (at, listener) = listen(member).await;
    let never = std::future::pending();
    tokio::spawn(keelson_port::serve(
        vec![listener],
        Member,
        Limits::default(),
        never,
    ));
    let (address, listener) = listen(proxy).await;
    let config = ProxyConfig {
        client_tls,
        request_timeout: Duration::from_secs(2),
        ..ProxyConfig::new(MembersFrom::Clients(vec![format!("https://{at}")]))
    };
    let never = std::future::pending();
    tokio::spawn(async {
        let served = keelson_proxy::serve(config, vec![listener], || {}, never);
        served.await.unwrap();
    });
    (at, address)
}

pub(crate) async fn connect(address: SocketAddr, tls: &ClientTls, protocol: Protocol) -> TlsSocket {
    let socket = TcpStream::connect(address).await.unwrap();
    let connecting = tls.connect("localhost", protocol, socket);
    timeout(PATIENCE, connecting).await.unwrap().unwrap()
}

pub(crate) type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

pub(crate) async fn http1(address: SocketAddr, tls: &ClientTls) -> Sender {
    let socket = TokioIo::new(connect(address, tls, Protocol::Http1).await);
    let (sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn ask(
    sender: &mut Sender,
    method: &str,
    path: &str,
    body: Bytes,
) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(body))
        .unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request)).await;
    let answer = answer.unwrap().unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn requests_go_through() {
    let certificates = Certificates::new();
    let (server, tls) = (certificates.server(true), certificates.client(true));
    let proxy = start(server.clone(), tls.clone(), server).await;
    let mut sender = http1(proxy, &tls).await;
    // One after the other, over connections that are used again.
    for _ in 0..3 {
        let got = ask(&mut sender, "GET", "/v2/keys/a", Bytes::new()).await;
        assert_eq!(got, (StatusCode::OK, "GET 0".to_owned()));
        let put = ask(&mut sender, "PUT", "/v2/keys/a", Bytes::from("value=1")).await;
        assert_eq!(put, (StatusCode::OK, "PUT 7".to_owned()));
    }
    let large = Bytes::from(vec![b'x'; 3_000_000]);
    let put = ask(&mut sender, "PUT", "/v2/keys/a", large).await;
    assert_eq!(put, (StatusCode::OK, "PUT 3000000".to_owned()));
}

#[tokio::test]
async fn waits_go_through() {
    let certificates = Certificates::new();
    let (server, tls) = (certificates.server(false), certificates.client(false));
    let proxy = start(server.clone(), tls.clone(), server).await;
    let mut sender = http1(proxy, &tls).await;
    for _ in 0..2 {
        let path = "/v2/keys/a?wait=true&waitIndex=4";
        let (status, event) = ask(&mut sender, "GET", path, Bytes::new()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(event, "{\"node\":{\"modifiedIndex\":4}}\n");
    }
}

#[tokio::test]
async fn calls_go_through() {
    let certificates = Certificates::new();
    let (server, tls) = (certificates.server(false), certificates.client(false));
    let proxy = start(server.clone(), tls.clone(), server).await;
    let socket = TokioIo::new(connect(proxy, &tls, Protocol::Http2).await);
    let executor = TokioExecutor::new();
    let shaking = hyper::client::conn::http2::handshake(executor, socket);
    let (mut sender, connection) = shaking.await.unwrap();
    tokio::spawn(connection);
    let message = Bytes::from_static(b"\0\0\0\0\x03abc");
    let request = Request::post("https://localhost/etcdserverpb.KV/Range")
        .header("content-type", "application/grpc")
        .body(Full::new(message.clone()))
        .unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request)).await;
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], "0");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, message);
}

#[tokio::test]
async fn a_member_of_another_root_is_not_asked() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let proxy = certificates.server(false);
    let tls = certificates.client(false);
    let proxy = start(others.server(false), tls.clone(), proxy).await;
    let mut sender = http1(proxy, &tls).await;
    let (status, _) = ask(&mut sender, "GET", "/v2/keys/a", Bytes::new()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}
