//! A server to measure: its binary, its name, its flags.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::plan::Plan;

/// One of the (at most two) servers of a run.
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
    /// The servers of the plan, ours first.
    ///
    /// # Errors
    /// A binary is not there or does not tell its version.
    pub fn all(plan: &Plan) -> Result<Vec<Server>> {
        let ours = plan.binary.clone().map_or_else(beside, Ok)?;
        let mut flags = plan.member_flag.clone();
        flags.extend_from_slice(&plan.our_flag);
        let mut servers = vec![Server::new(&ours, flags)?];
        if let Some(theirs) = &plan.against {
            servers.push(Server::new(theirs, plan.member_flag.clone())?);
        }
        if servers.len() == 2 && servers[0].name == servers[1].name {
            servers[0].name += " (a)";
            servers[1].name += " (b)";
        }
        Ok(servers)
    }

    fn new(binary: &Path, flags: Vec<String>) -> Result<Server> {
        Ok(Server {
            name: name(binary)?,
            binary: binary.to_path_buf(),
            flags,
        })
    }
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
