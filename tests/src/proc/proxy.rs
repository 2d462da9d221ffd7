//! A proxy for a cluster, as a child process: ours, or one of etcd's three kinds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::cluster::Cluster;
use super::ports;
use super::process::Process;

/// The interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(20);

/// Time limit for one check.
const LOOK: Duration = Duration::from_secs(2);

/// Bytes of a log shown after a failure.
const TAIL: usize = 4000;

/// The kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `--proxy on`: HTTP (etcd: the v2 API only); it gets the members from their peer URLs.
    Proxy,
    /// `gateway start`: TCP.
    Gateway,
    /// `grpc-proxy start`: the v3 API only.
    GrpcProxy,
}

impl Kind {
    /// The command line of a proxy of this kind that listens on `port`.
    fn arguments(self, cluster: &Cluster, port: u16, data_dir: &Path) -> Vec<String> {
        let address = format!("127.0.0.1:{port}");
        match self {
            Kind::Proxy => {
                let members = cluster.members.iter();
                let members = members.map(|member| format!("{}={}", member.name, member.peer_url));
                let members: Vec<String> = members.collect();
                vec![
                    "--proxy=on".into(),
                    format!("--data-dir={}", data_dir.display()),
                    format!("--listen-client-urls=http://{address}"),
                    format!("--initial-cluster={}", members.join(",")),
                ]
            }
            Kind::Gateway => started("gateway", cluster, &address),
            Kind::GrpcProxy => {
                let mut arguments = started("grpc-proxy", cluster, &address);
                arguments.push(format!("--data-dir={}", data_dir.display()));
                arguments
            }
        }
    }
}

/// `WHAT start` with the flags that both subcommands have.
fn started(what: &str, cluster: &Cluster, address: &str) -> Vec<String> {
    let endpoints = cluster.endpoints();
    let hosts = endpoints.iter().map(|url| url.replace("http://", ""));
    let hosts: Vec<String> = hosts.collect();
    vec![
        what.into(),
        "start".into(),
        format!("--listen-addr={address}"),
        format!("--endpoints={}", hosts.join(",")),
    ]
}

/// A running proxy. It must end before its cluster, whose directory contains its data and log.
#[derive(Debug)]
pub struct Proxy {
    /// Its URL for clients.
    pub url: String,
    log: PathBuf,
    process: Process,
}

impl Proxy {
    /// Starts a proxy; `extra` are flags of its kind.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(binary: &Path, kind: Kind, cluster: &Cluster, extra: &[String]) -> Result<Proxy> {
        let port = ports::free(1)?[0];
        let name = format!("proxy-{port}");
        let mut arguments = kind.arguments(cluster, port, &cluster.dir().join(&name));
        arguments.extend_from_slice(extra);
        let log = cluster.dir().join(format!("{name}.log"));
        Ok(Proxy {
            url: format!("http://127.0.0.1:{port}"),
            process: Process::start(binary, &arguments, &log)?,
            log,
        })
    }

    /// Waits until it answers `GET /health` with 200.
    ///
    /// # Errors
    /// It ends by itself or does not answer in time.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while let Err(error) = healthy(&self.url).await {
            self.alive()?;
            if Instant::now() > deadline {
                let tail = self.log_tail();
                bail!(
                    "{} does not serve after {limit:?}: {error}\n{tail}",
                    self.url
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Checks that its process has not ended by itself.
    ///
    /// # Errors
    /// It has; the text contains the end of its log.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.process.exited()? {
            bail!("the proxy ended by itself: {status}\n{}", self.log_tail());
        }
        Ok(())
    }

    /// The end of its log, for failure messages.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL)..]);
        format!("--- {} ---\n{tail}\n", self.log.display())
    }
}

async fn healthy(url: &str) -> Result<()> {
    let host = url.strip_prefix("http://").context("no http://")?;
    let look = async {
        let mut stream = TcpStream::connect(host).await?;
        let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(LOOK, look)
        .await
        .context("no answer")??;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("/health: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}
