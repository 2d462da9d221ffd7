//! Every certificate and its authority are replaced while requests run: through a member, a proxy
//! and the TCP gateway, over connections of before and over new ones. No request fails.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use keelson_port::{Protocol, ServerTls, TlsFiles};
use keelson_proxy::{ClientTls, ClientTlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::gateway::gateway;
use crate::support::until;
use crate::tls::{ask, http1, start_both};

/// The requests of each client in each step: enough that files are read again between them.
const REQUESTS: usize = 6;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate for this host, and its key, in PEM.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The files of the member, the proxy and the clients: one pair of each, one file of authorities.
struct Files(TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file as an operator's tool does, at once.
    fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn identity(&self, of: &str) -> (PathBuf, PathBuf) {
        (
            self.path(&format!("{of}.pem")),
            self.path(&format!("{of}-key.pem")),
        )
    }

    fn renew(&self, of: &str, authority: &Authority) {
        let (certificate, key) = authority.issue();
        self.write(&format!("{of}.pem"), &certificate);
        self.write(&format!("{of}-key.pem"), &key);
    }

    fn server(&self, of: &str) -> ServerTls {
        let (cert, key) = self.identity(of);
        let files = TlsFiles {
            client_ca: Some(self.path("ca.pem")),
            ..TlsFiles::new(cert, key)
        };
        ServerTls::new(files).unwrap()
    }

    fn client(&self, of: &str) -> ClientTls {
        let (own, ca) = (self.identity(of), self.path("ca.pem"));
        ClientTls::new(ClientTlsFiles::new(Some(own), Some(ca))).unwrap()
    }
}

/// Clients that do not stop.
#[derive(Default)]
struct Load {
    stop: Arc<AtomicBool>,
    /// The requests of each.
    done: Vec<Arc<AtomicUsize>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// A client of this address: over its first connection, and over a new one for each request.
    fn begin(&mut self, address: SocketAddr, tls: &ClientTls) {
        let (done, stop, tls) = (
            Arc::<AtomicUsize>::default(),
            Arc::clone(&self.stop),
            tls.clone(),
        );
        self.done.push(Arc::clone(&done));
        self.clients.push(tokio::spawn(async move {
            let mut first = http1(address, &tls).await;
            while !stop.load(Ordering::SeqCst) {
                let mut another = http1(address, &tls).await;
                for sender in [&mut first, &mut another] {
                    let put = ask(sender, "PUT", "/v2/keys/a", Bytes::from("value=1")).await;
                    assert_eq!(put, (StatusCode::OK, "PUT 7".to_owned()));
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }

    /// Returns once each client has gone on for some time.
    async fn goes_on(&self, step: &str) {
        let wanted: Vec<_> = self
            .done
            .iter()
            .map(|done| done.load(Ordering::SeqCst) + REQUESTS)
            .collect();
        until(step, async || {
            let mut all = self.done.iter().zip(&wanted);
            let ended = self.clients.iter().any(JoinHandle::is_finished);
            assert!(!ended, "a request failed: {step}");
            all.all(|(done, wanted)| *wanted <= done.load(Ordering::SeqCst))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_authorities_are_renewed_without_a_failed_request() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = Files(tempfile::tempdir().unwrap());
    files.write("ca.pem", &old.0.pem());
    for of in ["member", "proxy", "client"] {
        files.renew(of, &old);
    }
    let (member, proxy) = start_both(
        files.server("member"),
        files.client("proxy"),
        files.server("proxy"),
    )
    .await;
    let (gateway, _gateway) = gateway(vec![member.to_string()]).await;
    let client = files.client("client");
    let mut load = Load::default();
    for address in [member, proxy, gateway] {
        load.begin(address, &client);
    }
    load.goes_on("with the old certificates").await;
    files.write("ca.pem", &format!("{}{}", old.0.pem(), new.0.pem()));
    load.goes_on("with both authorities").await;
    for of in ["client", "member", "proxy"] {
        files.renew(of, &new);
        load.goes_on(of).await;
    }
    files.write("ca.pem", &new.0.pem());
    load.goes_on("with the new authority alone").await;
    load.stop.store(true, Ordering::SeqCst);
    for client in load.clients {
        client.await.unwrap();
    }
    // The old authority is gone everywhere.
    files.renew("former", &old);
    files.write("old-ca.pem", &format!("{}{}", old.0.pem(), new.0.pem()));
    let own = files.identity("former");
    let former = ClientTlsFiles::new(Some(own), Some(files.path("old-ca.pem")));
    let former = ClientTls::new(former).unwrap();
    for address in [member, proxy, gateway] {
        assert!(is_refused(address, &former).await, "{address}");
    }
}

/// With TLS 1.3 a client is refused only after its handshake.
async fn is_refused(address: SocketAddr, tls: &ClientTls) -> bool {
    let socket = TcpStream::connect(address).await.unwrap();
    let Ok(socket) = tls.connect("localhost", Protocol::Http1, socket).await else {
        return true;
    };
    let shaking = hyper::client::conn::http1::handshake(TokioIo::new(socket));
    let Ok((mut sender, connection)) = shaking.await else {
        return true;
    };
    tokio::spawn(connection);
    let get = Request::get("/v2/keys/a").header("host", "localhost");
    let get = get.body(Full::new(Bytes::new())).unwrap();
    sender.send_request(get).await.is_err()
}
