//! The servers to measure: ours, and others beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use keelson_tests::proc::cluster::{self, Cluster};

use crate::guard::{self, Change, Verdict};

/// The servers to run: the command line.
#[derive(Args, Clone, Debug, Default)]
pub struct Servers {
    /// Our server; `keelson` beside this program if not given.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Another server to run beside it, for example etcd; may be given several times.
    #[arg(long)]
    pub against: Vec<PathBuf>,
    /// An earlier build of ours to run beside it instead, with the same flags: the run ends with
    /// what has changed, and fails if this build is slower by more than tolerance and noise.
    #[arg(long, conflicts_with = "against")]
    pub baseline: Option<PathBuf>,
    /// By how much this build may be slower than the earlier one, of 1.
    #[arg(long, default_value_t = 0.03)]
    pub tolerance: f64,
    /// Where the members' data is; it should be a disk. The system's temporary directory if not
    /// set.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// A flag for every member of both servers; may be given several times.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub member_flag: Vec<String>,
    /// A flag for our members only; may be given several times.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub our_flag: Vec<String>,
}

impl Servers {
    /// The servers, ours first.
    ///
    /// # Errors
    /// A binary is not there or does not print its version.
    pub fn find(&self) -> Result<Vec<Server>> {
        let ours = self.binary.clone().map_or_else(beside, Ok)?;
        let mut flags = self.member_flag.clone();
        flags.extend_from_slice(&self.our_flag);
        let mut servers = vec![Server::new(&ours, flags.clone())?];
        if let Some(earlier) = &self.baseline {
            let mut earlier = Server::new(earlier, flags)?;
            earlier.name += " (earlier)";
            servers.push(earlier);
        }
        for theirs in &self.against {
            servers.push(Server::new(theirs, self.member_flag.clone())?);
        }
        if servers.len() == 2 && servers[0].name == servers[1].name {
            servers[0].name += " (a)";
            servers[1].name += " (b)";
        }
        Ok(servers)
    }

    /// To be called before a run, whose rounds may be too few for a verdict.
    ///
    /// # Errors
    /// They are.
    pub fn check_rounds(&self, rounds: usize) -> Result<()> {
        match self.baseline {
            Some(_) => guard::check_rounds(rounds),
            None => Ok(()),
        }
    }

    /// To be called before a run that has no verdict.
    ///
    /// # Errors
    /// There is an earlier build.
    pub fn check_no_baseline(&self, what: &str) -> Result<()> {
        ensure!(
            self.baseline.is_none(),
            "{what} has no verdict: use --baseline with cluster, v2, or the part `added` of proxy"
        );
        Ok(())
    }

    /// Prints what has changed since the earlier build, if there is one.
    ///
    /// # Errors
    /// This build is slower, or a cell is missing.
    pub fn judge(&self, changes: impl FnOnce() -> Result<Vec<Change>>) -> Result<()> {
        if self.baseline.is_none() {
            return Ok(());
        }
        let verdict = Verdict::of(changes()?, self.tolerance)?;
        print!("\n{}", verdict.markdown());
        verdict.outcome()
    }

    /// The servers with the v2 API on, which etcd 3.4 has off by default.
    ///
    /// # Errors
    /// As `find`.
    pub fn find_with_v2(&self) -> Result<Vec<Server>> {
        let mut servers = self.find()?;
        for server in &mut servers {
            server.flags.push("--enable-v2=true".into());
        }
        Ok(servers)
    }
}

/// One of the servers of a run.
#[derive(Clone, Debug)]
pub struct Server {
    /// What the report calls it: `keelson 0.1.0`, `etcd 3.4.23`.
    pub name: String,
    /// Its binary.
    pub binary: PathBuf,
    /// Flags for every member.
    pub flags: Vec<String>,
}

impl Server {
    fn new(binary: &Path, flags: Vec<String>) -> Result<Server> {
        Ok(Server {
            name: name(binary)?,
            binary: binary.to_path_buf(),
            flags,
        })
    }

    /// Starts members of it; their data is where the command line has it.
    ///
    /// # Errors
    /// One does not serve; the text holds the ends of the logs.
    pub async fn start(&self, servers: &Servers, members: usize) -> Result<Cluster> {
        let plan = cluster::Plan {
            binary: self.binary.clone(),
            members,
            extra: self.flags.clone(),
            parent: servers.data_dir.clone(),
        };
        Cluster::start(&plan).await
    }

    /// Whether it is an etcd, whose proxy forwards the v2 API only.
    pub fn is_etcd(&self) -> bool {
        self.name.starts_with("etcd")
    }
}

/// The servers with their places; the last goes first in every other round, so that none has the
/// warmer or the more worn disk.
pub fn in_turn(servers: &[Server], round: usize) -> Vec<(usize, &Server)> {
    let mut order: Vec<_> = servers.iter().enumerate().collect();
    if round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// Their names, for a headline.
pub fn names(servers: &[Server]) -> String {
    let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    names.join(" beside ")
}

/// `keelson` in the directory of this program.
fn beside() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let binary = exe.with_file_name("keelson");
    if !binary.is_file() {
        bail!(
            "{} is not there: cargo build --release -p keelson",
            binary.display()
        );
    }
    Ok(binary)
}

/// The first line of `--version`: `keelson X.Y.Z` or `etcd Version: X.Y.Z`.
fn name(binary: &Path) -> Result<String> {
    let output = Command::new(binary).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("{} --version prints nothing", binary.display());
    }
    Ok(line.replace("Version: ", ""))
}
