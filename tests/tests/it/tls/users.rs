//! Users from the certificates of clients: over gRPC, not over the gateway, and not through a proxy
//! that presents one of its own.

use keelson_port::{ClientTls, ClientTlsFiles, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const NO_USER: &str = "etcdserver: user name is empty";
const DENIED: &str = "etcdserver: permission denied";

/// alice may write `a` alone, and so may carol, who has a password.
const SETUP: [&str; 10] = [
    "user add root --no-password",
    "user grant-role root root",
    "user add alice --no-password",
    "user add carol:pw",
    "role add r",
    "role grant-permission r readwrite a",
    "user grant-role alice r",
    "user grant-role carol r",
    "put a 1",
    "auth enable",
];

impl Scene {
    /// etcdctl at the member, with the certificate of that name.
    fn as_user(&self, name: &str, words: &str) -> Result<Output> {
        let flags = [
            format!("--endpoints={}", self.url("https", CLIENTS)),
            format!("--cacert={}", self.path("ca.pem")),
            format!("--cert={}", self.path(&format!("{name}.pem"))),
            format!("--key={}", self.path(&format!("{name}-key.pem"))),
        ];
        self.etcdctl("3", &flags, &words.split(' ').collect::<Vec<_>>())
    }

    /// etcdctl at the proxy, which has no TLS for clients.
    fn through_the_proxy(&self, words: &str) -> Result<Output> {
        let flags = [format!("--endpoints={}", self.url("http", PROXY))];
        self.etcdctl("3", &flags, &words.split(' ').collect::<Vec<_>>())
    }

    /// The answer of a gateway to a range, with the certificate and the key in these files.
    async fn over_json(&self, url: String, [cert, key]: [&str; 2]) -> Result<String> {
        let [cert, key, ca] = [cert, key, "ca.pem"].map(|name| self.dir.path().join(name));
        let client = ClientTls::new(ClientTlsFiles::new(Some((cert, key)), Some(ca)))?;
        let answer = async {
            let mut wire = client.dial(&url.parse()?, Protocol::Http1).await?;
            let body = r#"{"key":"YQ=="}"#;
            let request = format!(
                "POST /v3/kv/range HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            wire.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            wire.read_to_string(&mut answer).await?;
            Ok::<_, anyhow::Error>(answer)
        };
        timeout(PATIENCE, answer).await.context("no answer")?
    }
}

fn refused(ran: &Output, text: &str) -> Result<()> {
    let err = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        !ran.status.success() && err.contains(text),
        "{text}: {ran:?}"
    );
    Ok(())
}

/// A member with auth, whose clients need certificates, and a proxy whose certificate is root's.
fn scene(etcdctl: PathBuf) -> Result<Scene> {
    let mut scene = Scene::new(etcdctl)?;
    let root = authority()?;
    scene.replace("ca.pem", &root.pem())?;
    scene.issue(&root)?;
    for name in ["root", "alice", "nobody"] {
        scene.issue_named(&root, name)?;
    }
    let peers = scene.url("http", PEERS);
    let ours = binary::ours()?;
    scene.start(
        &ours,
        &format!(
            "--name k --data-dir @member --listen-client-urls https://#0 --bcrypt-cost 4 \
             --advertise-client-urls https://#0 --listen-peer-urls {peers} \
             --initial-advertise-peer-urls {peers} --initial-cluster k={peers} {CLIENTS_TLS}"
        ),
    )?;
    scene.start(
        &ours,
        &format!(
            "--proxy on --data-dir @proxy --initial-cluster k={peers} \
             --listen-client-urls http://#2 --cert-file @root.pem --key-file @root-key.pem \
             --trusted-ca-file @ca.pem"
        ),
    )?;
    scene.comes_up(CLIENTS)?;
    for words in SETUP {
        let words: Vec<_> = words.split(' ').collect();
        let ran = scene.v3(CLIENTS, &words)?;
        ensure!(ran.status.success(), "{words:?}: {ran:?}");
    }
    Ok(scene)
}

#[tokio::test]
async fn a_common_name_is_a_user_over_grpc_alone_and_a_proxys_is_no_clients() -> Result<()> {
    let Some(etcdctl) = binary::or_skip("etcdctl")? else {
        return Ok(());
    };
    let scene = scene(etcdctl)?;
    told(&scene.as_user("root", "put b 1")?, "OK\n")?;
    told(&scene.as_user("alice", "put a 2")?, "OK\n")?;
    refused(&scene.as_user("alice", "put b 2")?, DENIED)?;
    refused(&scene.as_user("nobody", "put a 3")?, DENIED)?;
    refused(&scene.v3(CLIENTS, &["put", "a", "3"])?, NO_USER)?;
    told(&scene.as_user("root", "get a --print-value-only")?, "2\n")?;

    let member = || scene.url("https", CLIENTS);
    let named = scene
        .over_json(member(), ["root.pem", "root-key.pem"])
        .await?;
    let text = "CommonName of client sending a request against gateway";
    ensure!(
        named.starts_with("HTTP/1.1 400") && named.contains(text),
        "{named}"
    );
    let unnamed = scene.over_json(member(), ["cert.pem", "key.pem"]).await?;
    ensure!(
        unnamed.starts_with("HTTP/1.1 400") && unnamed.contains(NO_USER),
        "{unnamed}"
    );

    refused(&scene.through_the_proxy("put a 4")?, NO_USER)?;
    let proxied = scene
        .over_json(scene.url("http", PROXY), ["cert.pem", "key.pem"])
        .await?;
    ensure!(proxied.starts_with("HTTP/1.1 400"), "{proxied}");
    told(&scene.through_the_proxy("--user carol:pw put a 5")?, "OK\n")?;
    refused(&scene.through_the_proxy("--user carol:pw put b 5")?, DENIED)
}
