//! A discovery service behind TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use keelson_discovery::service::ServiceOptions;
use keelson_discovery::{Options, Outcome, join, new_token, v3};
use keelson_port::{ClientTls, ClientTlsFiles, ServerTls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::bounds::with_memory_registry;
use crate::etcd::Etcd;
use crate::hosts::{host, options, refusal};

/// A TLS front for a service without TLS.
struct Front {
    address: SocketAddr,
    ca: PathBuf,
    dir: TempDir,
}

impl Front {
    /// Its certificate is for localhost only.
    async fn start(behind: SocketAddr) -> Result<Front> {
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let certificate = params.signed_by(&key, &root)?;
        let dir = tempfile::tempdir()?;
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, root.pem())?;
        std::fs::write(dir.path().join("cert.pem"), certificate.pem())?;
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            behind,
        ));
        Ok(Front { address, ca, dir })
    }

    fn url(&self, host: &str, plain: &str) -> Result<String> {
        let path = plain.splitn(4, '/').nth(3).context("a path")?;
        Ok(format!("https://{host}:{}/{path}", self.address.port()))
    }

    fn trusted(&self) -> Options {
        Options {
            tls: ClientTlsFiles::new(None, Some(self.ca.clone())),
            ..options()
        }
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, behind: SocketAddr) {
    while let Ok((near, _)) = listener.accept().await {
        let tls = tls.clone();
        tokio::spawn(async move {
            // Clients that refuse the certificate are part of the test.
            let Ok(mut near) = tls.accept(near).await else {
                return;
            };
            if let Ok(mut far) = TcpStream::connect(behind).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

/// A cluster with https endpoints, by a scheme and without one.
#[tokio::test]
async fn a_host_joins_by_a_v3_token_over_tls() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let front = Front::start(([127, 0, 0, 1], etcd.port()).into()).await?;
    crate::v3::put(&etcd, "/_etcd/registry/t/_config/size", "1").await?;
    let endpoint = format!("localhost:{}", front.address.port());
    let options = |endpoint: String, tls| v3::Options {
        endpoints: vec![endpoint],
        token: "t".to_owned(),
        retry: options().retry,
        is_secure: true,
        tls,
        ..v3::Options::default()
    };
    let me = host(1, "t");
    let mut unknown = options(endpoint.clone(), ClientTlsFiles::default());
    unknown.retry.attempts_max = 2;
    ensure!(v3::join(&me, &unknown, None).await.is_err());
    for endpoint in [endpoint.clone(), format!("https://{endpoint}")] {
        let trusted = options(endpoint, front.trusted().tls);
        let joined = v3::join(&me, &trusted, None).await?;
        ensure!(matches!(joined, Outcome::Member { .. }), "{joined:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_service_makes_https_tokens_where_it_has_a_certificate() -> Result<()> {
    let front = Front::start(([127, 0, 0, 1], 1).into()).await?;
    let file = |name| front.dir.path().join(name);
    let files = TlsFiles {
        http1_only: true,
        ..TlsFiles::new(file("cert.pem"), file("key.pem"))
    };
    let options = ServiceOptions {
        tls: Some(ServerTls::new(files)?),
        ..ServiceOptions::default()
    };
    let service = with_memory_registry(options).await?;
    let url = service.url.replace("http://127.0.0.1", "https://localhost");
    let trusting = ClientTls::new(front.trusted().tls)?;
    let token = new_token(&url, "3".parse()?, &trusting).await?;
    ensure!(token.as_str().starts_with(&format!("{url}/")), "{token:?}");
    ensure!(
        new_token(&url, "3".parse()?, &ClientTls::default())
            .await
            .is_err()
    );
    Ok(())
}

/// Both were closed without a word.
#[tokio::test]
async fn a_client_of_the_other_scheme_is_answered() -> Result<()> {
    let front = Front::start(([127, 0, 0, 1], 1).into()).await?;
    let file = |name| front.dir.path().join(name);
    let tls = ServerTls::new(TlsFiles::new(file("cert.pem"), file("key.pem")))?;
    let hello: &[u8] = &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    let alert: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
    for (tls, sent, answer) in [
        (
            Some(tls),
            &b"GET /new HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            &b"HTTP/1.0 400 Bad Request\r\n\r\n\
               Client sent an HTTP request to an HTTPS server.\n"[..],
        ),
        (None, hello, alert),
    ] {
        let options = ServiceOptions {
            tls,
            ..ServiceOptions::default()
        };
        let service = with_memory_registry(options).await?;
        let mut socket = TcpStream::connect(address_of(&service.url)?).await?;
        socket.write_all(sent).await?;
        let mut answered = Vec::new();
        socket.read_to_end(&mut answered).await?;
        ensure!(answered == answer, "{}", answered.escape_ascii());
    }
    Ok(())
}

/// An HTTP proxy that, after some errors, opens tunnels to any host for the user `u` with the
/// password `p:`.
async fn proxy() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(tunnel(near));
        }
    });
    Ok(address)
}

/// Whether it has failed once.
static TROUBLED: AtomicBool = AtomicBool::new(false);

async fn tunnel(mut near: TcpStream) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let to = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next());
    if !TROUBLED.swap(true, Ordering::SeqCst) {
        near.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
            .await?;
        return Ok(());
    }
    let allowed = head.contains("\r\nProxy-Authorization: Basic dTpwOg==\r\n");
    let (Some(to), true) = (to, allowed) else {
        near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .await?;
        return Ok(());
    };
    let mut far = TcpStream::connect(to).await?;
    near.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
        .await?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

#[tokio::test]
async fn https_goes_through_an_http_proxy() -> Result<()> {
    let Some((_etcd, front, plain)) = fronted().await? else {
        return Ok(());
    };
    let url = front.url("localhost", &plain)?;
    let me = host(1, &url);
    let proxy = proxy().await?;
    let mut through = front.trusted();
    through.proxy = Some(format!("http://u:wrong@{proxy}"));
    let refused = refusal(&url, &me, &through).await.to_string();
    ensure!(
        refused.contains("407 Proxy Authentication Required"),
        "{refused}"
    );
    through.proxy = Some(format!("http://u:p%3A@{proxy}"));
    let joined = join(&url, &me, &through, None).await?;
    ensure!(matches!(joined, Outcome::Member { .. }), "{joined:?}");
    Ok(())
}

/// An etcd with a token of size 1, TLS in front of it, and the token's URL without TLS.
async fn fronted() -> Result<Option<(Etcd, Front, String)>> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(None);
    };
    let plain = etcd.token("1").await?;
    let front = Front::start(address_of(&plain)?).await?;
    Ok(Some((etcd, front, plain)))
}

fn address_of(url: &str) -> Result<SocketAddr> {
    let authority = url.split('/').nth(2).context("an authority")?;
    Ok(authority.parse()?)
}

#[tokio::test]
async fn a_host_joins_over_tls_and_only_where_the_certificate_is_right() -> Result<()> {
    let Some((_etcd, front, plain)) = fronted().await? else {
        return Ok(());
    };
    let url = front.url("localhost", &plain)?;
    let me = host(1, &url);

    let unknown = refusal(&url, &me, &options()).await.to_string();
    ensure!(unknown.contains("signed by a CA"), "{unknown}");
    let other = front.url("127.0.0.1", &plain)?;
    let wrong_name = refusal(&other, &me, &front.trusted()).await.to_string();
    ensure!(wrong_name.contains("must be for that host"), "{wrong_name}");

    let joined = join(&url, &me, &front.trusted(), None).await?;
    ensure!(matches!(joined, Outcome::Member { .. }), "{joined:?}");
    Ok(())
}
