//! One member: its flags, its directory, its process.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::process::Process;

/// Time limit for a clean stop. Generous: the member transfers leadership first.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Log lines of a member shown after a failure.
const TAIL_LINES: usize = 40;

/// A member on loopback, running or not.
#[derive(Debug)]
pub struct Member {
    /// Its `--name`.
    pub name: String,
    /// Its client URL.
    pub client_url: String,
    /// Its peer URL.
    pub peer_url: String,
    binary: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    process: Option<Process>,
}

impl Member {
    /// Describes a member; no process is started.
    pub(super) fn new(binary: &Path, dir: &Path, name: String, client: u16, peer: u16) -> Member {
        Member {
            client_url: format!("http://127.0.0.1:{client}"),
            peer_url: format!("http://127.0.0.1:{peer}"),
            binary: binary.to_path_buf(),
            data_dir: dir.join(&name),
            log: dir.join(format!("{name}.log")),
            args: Vec::new(),
            variables: Vec::new(),
            process: None,
            name,
        }
    }

    /// Sets the flags, once every member's URL is known. `state` is `new` for a founder and
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

    /// Uses another binary for its data directory from the next start on.
    pub fn set_binary(&mut self, binary: &Path) {
        self.binary = binary.to_path_buf();
    }

    /// Runs a command of the binary, whose words come before the flags, from the next start on.
    pub fn set_command(&mut self, words: &[&str]) {
        let words = words.iter().map(|word| (*word).to_owned());
        self.args.splice(0..0, words);
    }

    /// Gives it further flags from the next start on.
    pub fn add_flags(&mut self, flags: &[&str]) {
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        self.args.extend(flags);
    }

    /// Sets variables of its environment from the next start on.
    pub fn set_variables(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.variables = variables.iter().map(owned).collect();
    }

    /// Changes its peer URL from the next start on.
    pub fn move_to(&mut self, peer_url: &str) {
        for flag in ["listen-peer-urls", "initial-advertise-peer-urls"] {
            let prefix = format!("--{flag}=");
            for arg in self.args.iter_mut().filter(|arg| arg.starts_with(&prefix)) {
                *arg = format!("{prefix}{peer_url}");
            }
        }
        self.peer_url = peer_url.to_owned();
    }

    /// Listens for peers at another URL than the one it advertises, from the next start on.
    pub(super) fn listen_for_peers_at(&mut self, url: &str) {
        let prefix = "--listen-peer-urls=";
        for arg in self.args.iter_mut().filter(|arg| arg.starts_with(prefix)) {
            *arg = format!("{prefix}{url}");
        }
    }

    /// Removes its data, as the loss of a disk does. It must not run.
    ///
    /// # Errors
    /// The directory cannot be removed.
    pub fn lose_disk(&mut self) -> Result<()> {
        assert!(self.process.is_none(), "{} runs", self.name);
        std::fs::remove_dir_all(&self.data_dir)
            .with_context(|| format!("cannot remove {}", self.data_dir.display()))
    }

    /// Starts it, on the existing contents of its data directory.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(&mut self) -> Result<()> {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.process = Some(Process::start_with(
            &self.binary,
            &self.args,
            &self.variables,
            &self.log,
        )?);
        Ok(())
    }

    /// Whether its process exists. A stopped one (SIGSTOP) does.
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

    /// Sends SIGTERM without waiting.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Waits for the end of a member after SIGTERM.
    ///
    /// # Errors
    /// It does not stop, or stops with an error.
    pub async fn stopped(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let status = process.wait(STOP_LIMIT).await;
        let status = status.with_context(|| format!("{} did not stop", self.name))?;
        // etcd ends by the signal; ours exits with 0.
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

    /// Waits for the end of a member that ends without a signal; returns its exit code.
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

    /// SIGSTOP: the process stops, its sockets stay open.
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

    /// The end of its log, for failure messages.
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

    /// Checks that its process has not ended by itself.
    ///
    /// # Errors
    /// It has; the text contains the end of its log.
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
