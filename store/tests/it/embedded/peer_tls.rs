//! TLS between members.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_port::ClientTls;
use keelson_proto::etcdserverpb::*;
use keelson_store::Store;
use keelson_store::config::{AllowedNames, ClientTlsFiles, Config, PeerTlsFiles, TlsFiles, Url};
use keelson_store::internals::peer::request_members;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::time::timeout;

use super::{members, open, open_one, put};

/// A timeout that only a hang exceeds.
const LIMIT: Duration = Duration::from_secs(60);

/// An authority, and certificates of it with these common names.
struct Files(PathBuf);

impl Files {
    fn new(dir: &Path, names: &[&str]) -> anyhow::Result<Files> {
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(dir.join("ca.pem"), root.pem())?;
        for name in names {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, *name);
            let certificate = params.signed_by(&key, &root)?;
            fs::write(dir.join(format!("{name}.pem")), certificate.pem())?;
            fs::write(dir.join(format!("{name}-key.pem")), key.serialize_pem())?;
        }
        Ok(Files(dir.to_owned()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn client(&self, name: &str) -> ClientTlsFiles {
        let own = [format!("{name}.pem"), format!("{name}-key.pem")].map(|file| self.path(&file));
        let [cert, key] = own;
        ClientTlsFiles::new(Some((cert, key)), Some(self.path("ca.pem")))
    }

    /// `--peer-client-cert-auth --peer-cert-allowed-cn peer`.
    fn peers(&self) -> PeerTlsFiles {
        let client = self.client("peer");
        let (cert, key) = client.identity.clone().expect("it has one");
        PeerTlsFiles {
            server: Some(TlsFiles {
                client_ca: client.ca.clone(),
                checks_addresses: true,
                allowed: AllowedNames {
                    common_names: vec!["peer".to_owned()],
                    ..AllowedNames::default()
                },
                ..TlsFiles::new(cert, key)
            }),
            client,
        }
    }
}

fn https(url: &Url) -> Url {
    Url::parse(&url.to_string().replace("http://", "https://")).expect("a URL")
}

fn with_https(mut config: Config, files: &Files) -> Config {
    config.peer_tls = files.peers();
    let urls = config
        .listen_peer_urls
        .iter()
        .map(https)
        .collect::<Vec<_>>();
    config.initial_advertise_peer_urls.clone_from(&urls);
    config.listen_peer_urls = urls;
    for (_, url) in &mut config.initial_cluster {
        *url = https(url);
    }
    config
}

async fn shut_down(stores: Vec<Store>) {
    for store in stores {
        store.shutdown().await;
    }
}

async fn write(stores: &[Store]) -> anyhow::Result<()> {
    for store in stores {
        timeout(LIMIT, store.put(put("key", "value"))).await??;
    }
    Ok(())
}

/// Two of five may fail, and the port answers nobody without the right certificate.
#[tokio::test(flavor = "multi_thread")]
async fn five_members_with_tls_go_on_as_three_and_strangers_get_no_answer() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let files = Files::new(dir.path(), &["peer", "other"])?;
    let configs = members(dir.path(), 5).into_iter();
    let configs: Vec<_> = configs.map(|config| with_https(config, &files)).collect();
    let urls = configs[0].initial_advertise_peer_urls.clone();
    let mut stores = open(configs.clone()).await?;
    write(&stores).await?;
    let ca_only = ClientTlsFiles::new(None, Some(files.path("ca.pem")));
    for (client, served) in [
        (files.client("peer"), true),
        (files.client("other"), false),
        (ca_only, false),
    ] {
        let answer = request_members(&urls, &ClientTls::new(client)?).await;
        assert_eq!(answer.is_ok(), served, "{answer:?}");
    }
    let plain = Url::parse(&urls[0].to_string().replace("https://", "http://"))?;
    let answer = request_members(&[plain], &ClientTls::default()).await;
    assert!(answer.is_err());
    shut_down(stores.split_off(3)).await;
    write(&stores).await?;
    let again = open_one(configs[4].clone()).await?;
    again.ready().await;
    stores.push(again);
    write(&stores).await?;
    shut_down(stores).await;
    Ok(())
}

/// As etcd's guide has it: every member gets the files, then one after the other its new URL.
#[tokio::test(flavor = "multi_thread")]
async fn members_move_to_tls_one_by_one() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let files = Files::new(dir.path(), &["peer"])?;
    let mut configs = members(dir.path(), 3);
    for config in &mut configs {
        config.peer_tls.client = files.client("peer");
    }
    let mut stores = open(configs.clone()).await?;
    for number in 0..3 {
        let moved = with_https(configs[number].clone(), &files);
        let request = MemberUpdateRequest {
            id: stores[number].member_id().0,
            peer_ur_ls: moved.listen_peer_urls.iter().map(Url::to_string).collect(),
        };
        timeout(LIMIT, stores[number].member_update(request)).await??;
        let former = stores.remove(number);
        former.shutdown().await;
        drop(former);
        stores.insert(number, open_one(moved).await?);
        timeout(LIMIT, stores[number].ready()).await?;
        write(&stores).await?;
    }
    let listed = stores[0].member_list(true).await?.members;
    let urls = listed.iter().flat_map(|member| &member.peer_ur_ls);
    assert!(
        urls.clone().all(|url| url.starts_with("https://")),
        "{listed:?}"
    );
    shut_down(stores).await;
    Ok(())
}
