//! Discovery services, ours and Debian's, as processes that can be killed and restarted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::eventually;
use crate::http::{Client, Request};
use crate::proc::ports;
use crate::proc::process::Process;

/// A discovery service, running or not.
#[derive(Debug)]
pub struct Service {
    /// Its own URL.
    pub url: String,
    binary: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

impl Service {
    /// `keelson discovery serve` with its data below `dir`.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn ours(binary: &Path, dir: &Path) -> Result<Service> {
        let port = ports::free(1)?[0];
        let data = dir.join("discovery").display().to_string();
        let addr = format!("127.0.0.1:{port}");
        let args = ["discovery", "serve", "--addr", &addr, "--data-dir", &data];
        Service::start(binary, dir, port, &args).await
    }

    /// The same in front of an etcd.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn ours_before(binary: &Path, dir: &Path, etcd: &str) -> Result<Service> {
        let port = ports::free(1)?[0];
        let addr = format!("127.0.0.1:{port}");
        let args = ["discovery", "serve", "--addr", &addr, "--etcd", etcd];
        Service::start(binary, dir, port, &args).await
    }

    /// Debian's etcd-discovery in front of an etcd.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn debians(binary: &Path, dir: &Path, etcd: &str) -> Result<Service> {
        let port = ports::free(1)?[0];
        let addr = format!("127.0.0.1:{port}");
        let host = format!("http://{addr}");
        let args = ["-a", &addr, "-h", &host, "-e", etcd];
        Service::start(binary, dir, port, &args).await
    }

    async fn start(binary: &Path, dir: &Path, port: u16, args: &[&str]) -> Result<Service> {
        let mut service = Service {
            url: format!("http://127.0.0.1:{port}"),
            binary: binary.to_path_buf(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            log: dir.join("discovery.log"),
            process: None,
        };
        service.up()?;
        let url = service.url.clone();
        let health = Request::get("/health");
        let healthy = eventually("a healthy discovery service", async || {
            let reply = Client::new(&url).ask(&health).await;
            reply.is_ok_and(|reply| reply.status == 200)
        });
        healthy.await.with_context(|| service.log())?;
        Ok(service)
    }

    /// Starts it, again with the same address and data, without waiting for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn up(&mut self) -> Result<()> {
        self.process = Some(Process::start(&self.binary, &self.args, &self.log)?);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A discovery URL from `keelson discovery new` with the size in its environment, as in Deis's
    /// `make discovery-url`.
    ///
    /// # Errors
    /// There is none.
    pub fn token(&self, keelson: &Path, size: usize) -> Result<String> {
        let made = Command::new(keelson)
            .args(["discovery", "new", "--service", &self.url])
            .env("DEIS_NUM_INSTANCES", size.to_string())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(made.status.success(), "{made:?}\n{}", self.log());
        let url = String::from_utf8(made.stdout)?.trim().to_owned();
        ensure!(url.starts_with(&self.url), "{url}");
        Ok(url)
    }

    /// The names that are registered at a discovery URL.
    ///
    /// # Errors
    /// The service does not answer.
    pub async fn registered(&self, token: &str) -> Result<BTreeSet<String>> {
        let path = token.strip_prefix(&self.url).context("another's token")?;
        let reply = Client::new(&self.url).ask(&Request::get(path)).await?;
        ensure!(reply.status == 200, "{reply}");
        let json = reply.json().context("no JSON")?;
        let nodes = json["node"]["nodes"].as_array().cloned();
        let entries = nodes.unwrap_or_default();
        let name = |node: &serde_json::Value| {
            let value = node["value"].as_str()?;
            Some(value.split_once('=')?.0.to_owned())
        };
        Ok(entries.iter().filter_map(name).collect())
    }
}
