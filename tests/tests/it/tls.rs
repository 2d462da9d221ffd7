//! TLS with Debian's programs: its etcdctl as the client, and its etcd behind our proxies.

mod users;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_tests::proc::process::Process;
use keelson_tests::proc::{binary, ports};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tempfile::TempDir;

/// Time limit for all processes to come up, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The listeners, in this order.
const CLIENTS: usize = 0;
const PEERS: usize = 1;
const PROXY: usize = 2;
const GRPC_PROXY: usize = 3;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// A root CA, a certificate of it for both sides, and all processes.
struct Scene {
    dir: TempDir,
    ports: Vec<u16>,
    etcdctl: PathBuf,
    running: Vec<Process>,
}

impl Scene {
    fn new(etcdctl: PathBuf) -> Result<Scene> {
        let scene = Scene {
            dir: tempfile::tempdir()?,
            ports: ports::free(4)?,
            etcdctl,
            running: Vec::new(),
        };
        let root = authority()?;
        scene.replace("ca.pem", &root.pem())?;
        scene.issue(&root)?;
        Ok(scene)
    }

    /// A certificate with a common name, and its key: `NAME.pem` and `NAME-key.pem`.
    fn issue_named(&self, root: &Authority, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, root)?;
        self.replace(&format!("{name}-key.pem"), &key.serialize_pem())?;
        self.replace(&format!("{name}.pem"), &certificate.pem())
    }

    /// Puts a file in the place of another at once.
    fn replace(&self, name: &str, text: &str) -> Result<()> {
        let new = self.path("new");
        fs::write(&new, text)?;
        fs::rename(new, self.path(name)).context("rename")
    }

    /// Replaces the certificate of all programs, and its key.
    fn issue(&self, root: &Authority) -> Result<()> {
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names)?;
        // No common name: grpc-proxy refuses one, as etcd's does.
        params.distinguished_name = DistinguishedName::new();
        let certificate = params.signed_by(&key, root)?;
        self.replace("key.pem", &key.serialize_pem())?;
        self.replace("cert.pem", &certificate.pem())
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn url(&self, scheme: &str, which: usize) -> String {
        format!("{scheme}://127.0.0.1:{}", self.ports[which])
    }

    /// Starts a program; `@x` stands for the path of a file, `#n` for the address of listener n,
    /// with or without TLS.
    fn start(&mut self, program: &Path, flags: &str) -> Result<()> {
        let words = flags.split_ascii_whitespace().map(|word| {
            if let Some(file) = word.strip_prefix('@') {
                return self.path(file);
            }
            let mut word = word.to_owned();
            for (which, port) in self.ports.iter().enumerate() {
                word = word.replace(&format!("#{which}"), &format!("127.0.0.1:{port}"));
            }
            word
        });
        let words: Vec<String> = words.collect();
        let log = self.dir.path().join(format!("{}.log", self.running.len()));
        self.running.push(Process::start(program, &words, &log)?);
        Ok(())
    }

    fn etcdctl(&self, api: &str, flags: &[String], words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.etcdctl);
        command.env_clear().env("ETCDCTL_API", api);
        let ran = command.args(flags).args(words).output();
        ran.context("etcdctl")
    }

    /// etcdctl v3, with our certificate.
    fn v3(&self, which: usize, words: &[&str]) -> Result<Output> {
        let endpoint = format!("--endpoints={}", self.url("https", which));
        let files = ["cacert", "cert", "key"].map(|flag| {
            let file = if flag == "cacert" { "ca" } else { flag };
            format!("--{flag}={}", self.path(&format!("{file}.pem")))
        });
        let flags = [&[endpoint][..], &files].concat();
        self.etcdctl("3", &flags, words)
    }

    /// etcdctl v2, with our certificate or without.
    fn v2(&self, which: usize, shown: bool, words: &[&str]) -> Result<Output> {
        let mut flags = vec![
            format!("--endpoints={}", self.url("https", which)),
            format!("--ca-file={}", self.path("ca.pem")),
            "--no-sync".to_owned(),
        ];
        if shown {
            flags.push(format!("--cert-file={}", self.path("cert.pem")));
            flags.push(format!("--key-file={}", self.path("key.pem")));
        }
        self.etcdctl("2", &flags, words)
    }

    /// Waits for an answer.
    fn comes_up(&self, which: usize) -> Result<()> {
        let began = Instant::now();
        loop {
            let put = self.v3(which, &["put", "up", "1"])?;
            if put.status.success() {
                return Ok(());
            }
            let logs: Vec<_> = (0..self.running.len())
                .filter_map(|n| fs::read_to_string(self.dir.path().join(format!("{n}.log"))).ok())
                .collect();
            ensure!(
                began.elapsed() < PATIENCE,
                "{which} does not come up: {put:?}\n{}",
                logs.join("\n")
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The requests that must succeed, and those that must fail.
    fn works(&self, which: usize) -> Result<()> {
        self.comes_up(which)?;
        let key = format!("key{which}");
        told(&self.v3(which, &["put", &key, "value"])?, "OK\n")?;
        let get = self.v3(which, &["get", &key])?;
        told(&get, &format!("{key}\nvalue\n"))?;
        told(&self.v2(which, true, &["set", &key, "two"])?, "two\n")?;
        told(&self.v2(which, true, &["get", &key])?, "two\n")?;
        let stranger = self.v2(which, false, &["get", &key])?;
        ensure!(!stranger.status.success(), "who shows nothing gets nothing");
        Ok(())
    }
}

fn told(ran: &Output, expected: &str) -> Result<()> {
    let out = String::from_utf8_lossy(&ran.stdout);
    ensure!(
        ran.status.success() && out == expected,
        "{expected:?}: {ran:?}"
    );
    Ok(())
}

/// Certificates are required everywhere.
const CLIENTS_TLS: &str =
    "--cert-file @cert.pem --key-file @key.pem --client-cert-auth --trusted-ca-file @ca.pem";
const PEERS_TLS: &str = "--peer-cert-file @cert.pem --peer-key-file @key.pem \
     --peer-client-cert-auth --peer-trusted-ca-file @ca.pem";

#[test]
fn our_proxies_before_an_etcd_that_asks_for_certificates() -> Result<()> {
    let (Some(etcd), Some(etcdctl)) = (binary::etcd_or_skip()?, binary::or_skip("etcdctl")?) else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let mut scene = Scene::new(etcdctl)?;
    scene.start(
        &etcd,
        &format!(
            "--name e --data-dir @etcd --enable-v2 --listen-client-urls https://#0 \
             --advertise-client-urls https://#0 --listen-peer-urls https://#1 \
             --initial-advertise-peer-urls https://#1 --initial-cluster e=https://#1 \
             {CLIENTS_TLS} {PEERS_TLS}"
        ),
    )?;
    scene.start(
        &ours,
        &format!(
            "--proxy on --data-dir @proxy --initial-cluster e=https://#1 \
             --listen-client-urls https://#2 {CLIENTS_TLS} {PEERS_TLS}"
        ),
    )?;
    scene.start(
        &ours,
        "grpc-proxy start --endpoints #0 --listen-addr #3 --cert @cert.pem --key @key.pem \
         --cacert @ca.pem --cert-file @cert.pem --key-file @key.pem --trusted-ca-file @ca.pem",
    )?;
    for which in [CLIENTS, PROXY, GRPC_PROXY] {
        scene.works(which).with_context(|| format!("{which}"))?;
    }
    Ok(())
}

#[test]
fn our_member_asks_etcdctl_for_a_certificate() -> Result<()> {
    let Some(etcdctl) = binary::or_skip("etcdctl")? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let mut scene = Scene::new(etcdctl)?;
    let peers = scene.url("http", PEERS);
    scene.start(
        &ours,
        &format!(
            "--name k --data-dir @member --listen-client-urls https://#0 \
             --advertise-client-urls https://#0 --listen-peer-urls {peers} \
             --initial-advertise-peer-urls {peers} --initial-cluster k={peers} {CLIENTS_TLS}"
        ),
    )?;
    scene.works(CLIENTS)
}

/// All ports need certificates, and nothing is started again.
#[test]
fn our_member_and_our_proxy_take_a_new_authority() -> Result<()> {
    let Some(etcdctl) = binary::or_skip("etcdctl")? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let mut scene = Scene::new(etcdctl)?;
    scene.start(
        &ours,
        &format!(
            "--name k --data-dir @member --listen-client-urls https://#0 \
             --advertise-client-urls https://#0 --listen-peer-urls https://#1 \
             --initial-advertise-peer-urls https://#1 --initial-cluster k=https://#1 \
             {CLIENTS_TLS} {PEERS_TLS}"
        ),
    )?;
    scene.start(
        &ours,
        &format!(
            "--proxy on --data-dir @proxy --initial-cluster k=https://#1 \
             --listen-client-urls https://#2 {CLIENTS_TLS} {PEERS_TLS}"
        ),
    )?;
    let answers = |scene: &Scene| {
        for which in [CLIENTS, PROXY] {
            told(&scene.v3(which, &["put", "key", "value"])?, "OK\n")?;
        }
        Ok::<_, anyhow::Error>(())
    };
    scene.works(CLIENTS)?;
    scene.works(PROXY)?;
    let old = fs::read_to_string(scene.path("ca.pem"))?;
    let new = authority()?;
    scene.replace("ca.pem", &format!("{old}{}", new.pem()))?;
    answers(&scene)?;
    scene.issue(&new)?;
    answers(&scene)?;
    scene.replace("ca.pem", &new.pem())?;
    answers(&scene)?;
    scene.issue(&authority()?)?;
    let stranger = scene.v3(CLIENTS, &["put", "key", "value"])?;
    ensure!(
        !stranger.status.success(),
        "a certificate of another authority"
    );
    Ok(())
}
