//! One host: its environment, its data directory, its process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::{LIMIT, POLL};
use crate::http::{Client, Request};
use crate::proc::cluster::Cluster;
use crate::proc::member::Member;
use crate::proc::ports;
use crate::proc::process::Process;

/// Log lines shown after a failure.
const TAIL_LINES: usize = 30;

/// Time limit for one request.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The role in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// None yet.
    Undecided,
    /// The directory has a log.
    Member,
    /// The directory is a proxy's.
    Proxy,
}

/// A host on loopback, running or not. It is configured by its environment, as by cloud-init.
#[derive(Debug)]
pub struct Host {
    /// Its `ETCD_NAME`.
    pub name: String,
    /// Its client URL.
    pub client_url: String,
    /// Its peer URL, if it becomes a member.
    pub peer_url: String,
    binary: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    flags: Vec<String>,
    variables: BTreeMap<String, String>,
    process: Option<Process>,
}

impl Host {
    /// A host below `dir`, with its addresses in its environment and no other setting.
    ///
    /// # Errors
    /// No free ports.
    pub fn new(binary: &Path, dir: &Path, name: &str) -> Result<Host> {
        let host = Host::bare(binary, dir, name)?;
        let (client, peer) = (host.client_url.clone(), host.peer_url.clone());
        Ok(host
            .with("ETCD_LISTEN_CLIENT_URLS", &client)
            .with("ETCD_ADVERTISE_CLIENT_URLS", &client)
            .with("ETCD_LISTEN_PEER_URLS", &peer)
            .with("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer)
            .with("ETCD_LOGGER", "capnslog"))
    }

    /// A host with a name and a data directory only; its URLs are for the caller's use.
    ///
    /// # Errors
    /// No free ports.
    pub fn bare(binary: &Path, dir: &Path, name: &str) -> Result<Host> {
        let ports = ports::free(2)?;
        let data_dir = dir.join(name);
        let data = data_dir.display().to_string();
        let host = Host {
            name: name.to_owned(),
            client_url: format!("http://127.0.0.1:{}", ports[0]),
            peer_url: format!("http://127.0.0.1:{}", ports[1]),
            binary: binary.to_path_buf(),
            log: dir.join(format!("{name}.log")),
            data_dir,
            flags: Vec::new(),
            variables: BTreeMap::new(),
            process: None,
        };
        Ok(host.with("ETCD_NAME", name).with("ETCD_DATA_DIR", &data))
    }

    /// A proxy for a cluster, with its directory beside the members'.
    ///
    /// # Errors
    /// No free ports.
    pub fn proxy(binary: &Path, cluster: &Cluster, name: &str) -> Result<Host> {
        let entry = |member: &Member| format!("{}={}", member.name, member.peer_url);
        let entries: Vec<String> = cluster.members.iter().map(entry).collect();
        let host = Host::new(binary, cluster.dir(), name)?;
        Ok(host
            .with("ETCD_PROXY", "on")
            .with("ETCD_INITIAL_CLUSTER", &entries.join(",")))
    }

    /// Sets a variable of its environment.
    pub fn with(mut self, variable: &str, text: &str) -> Host {
        self.variables.insert(variable.to_owned(), text.to_owned());
        self
    }

    /// Removes a variable from its environment.
    pub fn without(mut self, variable: &str) -> Host {
        self.variables.remove(variable);
        self
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: &str) -> Host {
        self.flags.push(flag.to_owned());
        self
    }

    /// Its entry in a static `--initial-cluster`.
    pub fn entry(&self) -> String {
        format!("{}={}", self.name, self.peer_url)
    }

    /// Starts it, on the existing contents of its data directory.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(&mut self) -> Result<()> {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let variables: Vec<_> = self.variables.clone().into_iter().collect();
        let process = Process::start_with(&self.binary, &self.flags, &variables, &self.log)?;
        self.process = Some(process);
        Ok(())
    }

    /// Whether its process was started and not ended by the test.
    pub fn running(&self) -> bool {
        self.process.is_some()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM)?;
            process.wait(LIMIT).await.context(self.log_tail())?;
        }
        Ok(())
    }

    /// Waits until it has ended by itself; returns its exit code.
    ///
    /// # Errors
    /// It runs on, or was killed.
    pub async fn ended(&mut self) -> Result<i32> {
        let process = self.process.take();
        let mut process = process.with_context(|| format!("{} does not run", self.name))?;
        let status = process.wait(LIMIT).await.context(self.log_tail())?;
        let code = status.code();
        code.with_context(|| format!("{} ended with {status}", self.name))
    }

    /// Starts it and expects a refusal: it ends with 1, and its log contains `text`.
    ///
    /// # Errors
    /// It does not.
    pub async fn refuses(&mut self, text: &str) -> Result<()> {
        self.start()?;
        let code = self.ended().await?;
        let tail = self.log_tail();
        ensure!(code == 1, "exit code {code}\n{tail}");
        ensure!(self.log().contains(text), "no {text:?} in\n{tail}");
        Ok(())
    }

    /// The role in its data directory.
    pub fn role(&self) -> Role {
        let there = |what: &str| self.data_dir.join(what).exists();
        match (there("member"), there("proxy")) {
            (true, _) => Role::Member,
            (_, true) => Role::Proxy,
            _ => Role::Undecided,
        }
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Removes its log file. It must not run.
    ///
    /// # Errors
    /// There is none.
    pub fn forget_log(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.log)?)
    }

    /// The end of its log, for failure messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- {} ---\n{}\n", self.name, tail.join("\n"))
    }

    /// Waits until its log contains `text`.
    ///
    /// # Errors
    /// It ends by itself, or the text does not come.
    pub async fn says(&mut self, text: &str) -> Result<()> {
        self.until(&format!("{text:?} in the log"), async |host| {
            host.log().contains(text)
        })
        .await
    }

    /// Waits until it answers a read with a quorum.
    ///
    /// # Errors
    /// It ends by itself, or never answers.
    pub async fn serves(&mut self) -> Result<()> {
        self.until("a quorum read", async |host| host.reads().await)
            .await
    }

    async fn reads(&self) -> bool {
        let mut client = Client::patient(&self.client_url, ANSWER_MAX);
        let request = Request::get("/v2/keys/?quorum=true");
        let read = client.ask(&request).await;
        read.is_ok_and(|reply| reply.status == 200)
    }

    async fn until(&mut self, what: &str, mut done: impl AsyncFnMut(&Host) -> bool) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if done(self).await {
                return Ok(());
            }
            let process = self.process.as_mut();
            let process = process.with_context(|| format!("{} does not run", self.name))?;
            if let Some(status) = process.exited()? {
                bail!("{} ended: {status}\n{}", self.name, self.log_tail());
            }
            if deadline < Instant::now() {
                bail!("{}: never {what}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
