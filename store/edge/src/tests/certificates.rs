//! Users from the certificates of clients.

#![expect(clippy::disallowed_methods, reason = "certificates are in files")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_core::state::auth::Caller;
use keelson_port::{Limits, Listener, ServerTls, TlsFiles};
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op as AuthOp;
use keelson_proto::internal::{AuthChange, AuthEnable};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType};
use rcgen::{IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;
use crate::backend::Backend;
use crate::{CallMetrics, RateLimit, RateLimits, Rates};

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate and its key in PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    async fn port(&self, dir: &Path) -> Port {
        self.limited_port(dir, RateLimits::default()).await
    }

    async fn limited_port(&self, dir: &Path, limits: RateLimits) -> Port {
        let files = TlsFiles {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            client_ca: Some(dir.join("ca.pem")),
            ..TlsFiles::default()
        };
        let (certificate, key) = self.issue("server");
        std::fs::write(&files.cert, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        std::fs::write(dir.join("ca.pem"), self.0.pem()).unwrap();
        let tls = ServerTls::new(files).unwrap();
        Port::serving(move |fake, listeners, shutdown| async move {
            let listeners = listeners
                .into_iter()
                .map(|listener| Listener::new(listener, Some(tls.clone())))
                .collect();
            let more = |_: &_| crate::More::<()> {
                rates: Rates::new(limits, CallMetrics::default()),
                ..Default::default()
            };
            crate::serve_clients::<_, ()>(fake, listeners, Limits::default(), more, shutdown).await
        })
        .await
    }

    /// Connects with a certificate of that name.
    async fn connect(&self, port: &Port, name: &str) -> Sender {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let (certificate, key) = self.issue(name);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, port.connect().await).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// The text of the status of a range over gRPC; empty if it is answered.
async fn range(sender: &mut Sender, field: Option<(&str, &str)>) -> String {
    let message = RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let mut body = vec![0; 4];
    body.push(u8::try_from(message.encoded_len()).unwrap());
    body.extend(message.encode_to_vec());
    let mut request = Request::post("https://localhost/etcdserverpb.KV/Range")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some((name, value)) = field {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().unwrap_or(&head.headers);
    let text = trailers.get("grpc-message");
    text.map_or(String::new(), |text| {
        text.to_str().unwrap().replace("%20", " ")
    })
}

async fn change(port: &Port, op: AuthOp) {
    let member = port.fake.acting_as(Caller::Member);
    let change = AuthChange { op: Some(op) };
    member.auth_change(change).await.expect("it is allowed");
}

async fn add_users(port: &Port) {
    let user = |name: &str| AuthUserAddRequest {
        name: name.into(),
        options: Some(keelson_proto::authpb::UserAddOptions { no_password: true }),
        ..Default::default()
    };
    let grant = |name: &str| AuthUserGrantRoleRequest {
        user: name.into(),
        role: "root".into(),
    };
    for op in [
        AuthOp::UserAdd(user("root")),
        AuthOp::UserGrantRole(grant("root")),
        AuthOp::UserAdd(user("limited")),
    ] {
        change(port, op).await;
    }
}

async fn enable_auth(port: &Port) {
    add_users(port).await;
    let secret = Bytes::from_static(b"secret");
    change(port, AuthOp::Enable(AuthEnable { secret })).await;
}

/// A stream of one watcher, with the bytes that were read ahead.
struct Watch(hyper::body::Incoming, Vec<u8>);

impl Watch {
    async fn of(sender: &mut Sender, key: &'static str) -> Watch {
        let create = WatchCreateRequest {
            key: key.into(),
            ..Default::default()
        };
        let message = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
        };
        let mut body = vec![0; 4];
        body.push(u8::try_from(message.encoded_len()).unwrap());
        body.extend(message.encode_to_vec());
        let request = Request::post("https://localhost/etcdserverpb.Watch/Watch")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)));
        let answer = within(sender.send_request(request.unwrap())).await.unwrap();
        Watch(answer.into_body(), Vec::new())
    }

    async fn next(&mut self) -> WatchResponse {
        loop {
            if let [_, a, b, c, d, rest @ ..] = &self.1[..] {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if let Some((message, rest)) = rest.split_at_checked(length) {
                    let message = WatchResponse::decode(message).unwrap();
                    self.1 = rest.to_vec();
                    return message;
                }
            }
            let frame = within(self.0.frame()).await.expect("it goes on").unwrap();
            self.1.extend(frame.into_data().expect("a piece"));
        }
    }
}

#[tokio::test]
async fn the_common_name_of_a_client_without_a_token_is_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let port = authority.port(dir.path()).await;
    enable_auth(&port).await;
    let denied = "etcdserver: permission denied";
    for (name, expected) in [
        ("root", ""),
        ("limited", denied),
        ("nobody", denied),
        ("", "etcdserver: user name is empty"),
    ] {
        let mut sender = authority.connect(&port, name).await;
        assert_eq!(range(&mut sender, None).await, expected, "{name}");
    }
    // A token counts before the certificate, and that of a proxy is not its clients'.
    let mut sender = authority.connect(&port, "root").await;
    for (name, value, expected) in [
        ("token", "x", "etcdserver: invalid auth token"),
        (
            "x-forwarded-for",
            "10.0.0.1",
            "etcdserver: user name is empty",
        ),
        ("keelson-proxied-by", "p", "etcdserver: user name is empty"),
        (
            "grpcgateway-accept",
            "*/*",
            "etcdserver: user name is empty",
        ),
    ] {
        assert_eq!(range(&mut sender, Some((name, value))).await, expected);
    }
}

/// It ended when auth was enabled, as one without a user, at a member that had not applied it yet.
#[tokio::test]
async fn a_watch_of_before_auth_was_enabled_is_its_certificates_users() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let port = authority.port(dir.path()).await;
    add_users(&port).await;
    let mut senders = Vec::new();
    let mut watches = Vec::new();
    for name in ["root", "limited", ""] {
        let mut sender = authority.connect(&port, name).await;
        let mut watch = Watch::of(&mut sender, "a").await;
        let created = watch.next().await;
        assert!(created.created && !created.canceled, "{name}: auth is off");
        senders.push(sender);
        watches.push(watch);
    }
    let secret = Bytes::from_static(b"secret");
    change(&port, AuthOp::Enable(AuthEnable { secret })).await;
    let put = PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    let root = Caller::User {
        name: "root".to_owned(),
        since: 0,
    };
    port.fake.acting_as(root).put(put).await.unwrap();
    let [roots, others, nobodys] = &mut watches[..] else {
        panic!("three watches");
    };
    let event = roots.next().await;
    assert!(!event.canceled && event.events.len() == 1, "{event:?}");
    for watch in [others, nobodys] {
        let ended = watch.next().await;
        assert!(ended.canceled && ended.events.is_empty(), "{ended:?}");
    }
}

/// The limit is the user's, on all its connections together.
#[tokio::test]
async fn the_users_of_certificates_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let limits = RateLimits {
        user: RateLimit::hourly(2),
        ..RateLimits::default()
    };
    let port = authority.limited_port(dir.path(), limits).await;
    enable_auth(&port).await;
    for expected in ["", "", "etcdserver: too many requests"] {
        let mut sender = authority.connect(&port, "root").await;
        assert_eq!(range(&mut sender, None).await, expected);
    }
    let mut other = authority.connect(&port, "limited").await;
    let denied = "etcdserver: permission denied";
    assert_eq!(range(&mut other, None).await, denied);
}

/// etcd's answer: its gateway has one certificate for all clients.
#[tokio::test]
async fn the_gateway_refuses_clients_whose_certificate_has_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let port = authority.port(dir.path()).await;
    let ask = async |name: &str| {
        let mut sender = authority.connect(&port, name).await;
        let request = Request::post("https://localhost/v3/kv/range");
        let body = Full::new(Bytes::from_static(br#"{"key":"YQ=="}"#));
        let answer = sender.send_request(request.body(body).unwrap()).await;
        let (head, body) = answer.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8_lossy(&body).into_owned())
    };
    assert_eq!(ask("root").await.0, StatusCode::OK, "auth is off");
    enable_auth(&port).await;
    let (status, text) = ask("root").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.starts_with("CommonName of client sending a request against gateway"));
    let (status, text) = ask("").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("user name is empty"), "{text}");
}
