//! A real etcd with its v2 API, on loopback.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::client;
use crate::ports;

/// A process that is killed when its handle is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Process> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Process(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One etcd, a cluster of its own.
pub(crate) struct Etcd {
    binary: PathBuf,
    dir: TempDir,
    port: u16,
    peer_port: u16,
    process: Option<Process>,
}

impl Etcd {
    /// A new etcd; `None` when it is not installed.
    pub(crate) async fn start() -> Result<Option<Etcd>> {
        let Some(binary) = program("etcd")? else {
            return Ok(None);
        };
        let mut etcd = Etcd {
            binary,
            dir: tempfile::tempdir()?,
            port: free_port()?,
            peer_port: free_port()?,
            process: None,
        };
        etcd.up().await?;
        Ok(Some(etcd))
    }

    /// Starts it, again with the same ports and data.
    pub(crate) async fn up(&mut self) -> Result<()> {
        let client = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(&self.binary);
        command
            .args(["--enable-v2=true", "--name=registry", "--unsafe-no-fsync"])
            .arg(format!("--data-dir={}", self.dir.path().display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=registry={peer}"));
        self.process = Some(Process::start(&mut command)?);
        client::until_ok(&format!("{client}/health")).await
    }

    /// kill -9.
    pub(crate) fn down(&mut self) {
        self.process = None;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A token for `size` members, written as the service would.
    pub(crate) async fn token(&self, size: &str) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let token = format!("{:032x}", NEXT.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}/v2/keys/_etcd/registry/{token}", self.url());
        let form = format!("value={size}");
        let answer = client::ask("PUT", &format!("{url}/_config/size"), &form).await?;
        anyhow::ensure!(answer.status == 201, "{answer:?}");
        Ok(url)
    }
}

/// The ids registered at a token.
pub(crate) async fn registered(token: &str) -> Result<Vec<String>> {
    let answer = client::ask("GET", token, "").await?;
    let json: serde_json::Value = serde_json::from_str(&answer.body)?;
    let nodes = json["node"]["nodes"].as_array().cloned();
    let key = |node: &serde_json::Value| node["key"].as_str().map(str::to_owned);
    let keys: Vec<String> = nodes.iter().flatten().filter_map(key).collect();
    Ok(keys
        .iter()
        .filter_map(|key| key.rsplit_once('/').map(|(_, id)| id.to_owned()))
        .collect())
}

/// A port without a listener.
pub(crate) fn free_port() -> Result<u16> {
    let free = ports::free(1)?;
    free.first().copied().context("one was requested")
}

/// A program on PATH, or `None` with a printed reason. With CI=true a missing program is an error.
#[expect(clippy::disallowed_methods, reason = "a test finds installed programs")]
pub(crate) fn program(name: &str) -> Result<Option<PathBuf>> {
    let path = std::env::var_os("PATH").context("no PATH")?;
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            bail!("{name} is not on PATH, and CI=true allows no skipping");
        }
        eprintln!("skipped: {name} not on PATH");
    }
    Ok(found)
}

/// Long enough for a slow machine, short enough for a test.
pub(crate) const SOON: Duration = Duration::from_secs(30);
