//! One member: its flags, its directory, its process.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::process::Process;

/// How long a member may take to stop cleanly. Generous: it hands leadership over first.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Lines of a member's log shown when something failed.
const TAIL_LINES: usize = 40;

/// A member on loopback, running or not.
#[derive(Debug)]
pub struct Member {
    /// Its `--name`.
    pub name: String,
    /// Where clients reach it, as a URL.
    pub client_url: String,
    /// Where members reach it, as a URL.
    pub peer_url: String,
    binary: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    args: Vec<String>,
    process: Option<Process>,
}

impl Member {
    /// Describes a member; nothing runs yet.
    pub(super) fn new(binary: &Path, dir: &Path, name: String, client: u16, peer: u16) -> Member {
        Member {
            client_url: format!("http://127.0.0.1:{client}"),
            peer_url: format!("http://127.0.0.1:{peer}"),
            binary: binary.to_path_buf(),
            data_dir: dir.join(&name),
            log: dir.join(format!("{name}.log")),
            args: Vec::new(),
            process: None,
            name,
        }
    }

    /// Sets the flags, now that every member's URL is known. `state` is `new` for a founder and
    /// `existing` for a member that joins.
    pub(super) fn configure(
        &mut self,
        (initial_cluster, state): (&str, &str),
        token: &str,
        extra: &[String],
    ) {
        let data_dir = self.data_dir.display().to_string();
        let flags = [
            ("name", self.name.as_str()),
            ("data-dir", &data_dir),
            ("listen-client-urls", &self.client_url),
            ("advertise-client-urls", &self.client_url),
            ("listen-peer-urls", &self.peer_url),
            ("initial-advertise-peer-urls", &self.peer_url),
            ("initial-cluster", initial_cluster),
            ("initial-cluster-state", state),
            ("initial-cluster-token", token),
            ("logger", "zap"),
        ];
        self.args = flags
            .iter()
            .map(|(flag, value)| format!("--{flag}={value}"))
            .collect();
        self.args.extend_from_slice(extra);
    }

    /// Another server has its data directory from the next start on.
    pub fn set_binary(&mut self, binary: &Path) {
        self.binary = binary.to_path_buf();
    }

    /// Listens for peers at this URL from its next start on.
    pub fn move_to(&mut self, peer_url: &str) {
        for flag in ["listen-peer-urls", "initial-advertise-peer-urls"] {
            let prefix = format!("--{flag}=");
            for arg in self.args.iter_mut().filter(|arg| arg.starts_with(&prefix)) {
                *arg = format!("{prefix}{peer_url}");
            }
        }
        self.peer_url = peer_url.to_owned();
    }

    /// Removes its data, as a disk does that is lost. It must not run.
    ///
    /// # Errors
    /// The directory cannot be removed.
    pub fn lose_disk(&mut self) -> Result<()> {
        assert!(self.process.is_none(), "{} runs", self.name);
        std::fs::remove_dir_all(&self.data_dir)
            .with_context(|| format!("cannot remove {}", self.data_dir.display()))
    }

    /// Starts it, on whatever its data directory holds.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(&mut self) -> Result<()> {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.process = Some(Process::start(&self.binary, &self.args, &self.log)?);
        Ok(())
    }

    /// Whether its process is there. A paused one is.
    pub fn running(&self) -> bool {
        self.process.is_some()
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and returns at once.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Waits for the end of a member that was told to stop.
    ///
    /// # Errors
    /// It does not stop, or stops with an error.
    pub async fn stopped(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let status = process.wait(STOP_LIMIT).await;
        let status = status.with_context(|| format!("{} did not stop", self.name))?;
        // etcd ends itself with the signal it got; we exit with 0.
        use std::os::unix::process::ExitStatusExt;
        let clean = status.success() || status.signal() == Some(Signal::TERM.as_raw());
        anyhow::ensure!(
            clean,
            "{} stopped with {status}\n{}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// Waits for the end of a member that ends without a signal: its exit code.
    ///
    /// # Errors
    /// It runs on after `limit`, or does not run.
    pub async fn ended(&mut self, limit: Duration) -> Result<Option<i32>> {
        let process = self.process.as_mut();
        let process = process.with_context(|| format!("{} does not run", self.name))?;
        let status = process.wait(limit).await;
        let status = status.with_context(|| self.log_tail())?;
        self.process = None;
        Ok(status.code())
    }

    /// SIGSTOP: the process stands still, its sockets stay open.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, for messages about failures.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let mut tail = format!("--- {} ({}) ---\n", self.name, self.log.display());
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            // Writing to a String cannot fail.
            let _ = writeln!(tail, "{line}");
        }
        tail
    }

    /// An error if its process has ended by itself.
    ///
    /// # Errors
    /// It has, with the end of its log.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.exited()?
        {
            anyhow::bail!(
                "{} ended by itself: {status}\n{}",
                self.name,
                self.log_tail()
            );
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        let process = self.process.as_mut();
        let process = process.with_context(|| format!("{} does not run", self.name))?;
        process.signal(signal)
    }
}
