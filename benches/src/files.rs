//! The limit of open files, which a connection each soon meets.

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside the connections: a member's log, database, peers.
const OTHERS: u64 = 500;

/// Sees to it that this process and its children may have that many connections.
///
/// # Errors
/// The system allows fewer.
pub fn allow(connections: usize) -> Result<()> {
    let needed = connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        maximum >= needed,
        "{needed} files must be open, the system allows {maximum}: ulimit -Hn"
    );
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}
