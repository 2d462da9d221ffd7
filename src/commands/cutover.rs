//! `keelson cutover`: opens a standby for writes.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;

use super::follow;
use crate::signals::Stop;

/// Open a standby for writes, once it has everything that its source has. Run it on the standby's
/// host.
///
/// The source is fenced first: with its alarm CORRUPT it refuses writes of keys and leases, and so
/// it has no write that is not here. HashKV of both is compared. If anything fails, the fence is
/// taken away and the standby goes on following, unless the outcome of the opening is unknown:
/// then the fence stays. An etcd cannot be made to refuse writes of v2 keys: what its writers of v2
/// keys change meanwhile is named.
#[derive(Debug, Parser)]
#[command(name = "cutover", bin_name = "keelson cutover")]
struct CutoverArguments {
    /// The standby's data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// Do not fence the source: its writers are stopped already.
    #[arg(long)]
    no_fence: bool,
    /// The longest wait for what is not followed yet, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Debug, thiserror::Error)]
enum CutoverCommandError {
    #[error(
        "no answer of the follower in {}: {error}. Run this where keelson follow runs, with its \
         --data-dir and as its user. If it ended meanwhile, its source may still refuse writes: \
         etcdctl alarm disarm there ends that", dir.display()
    )]
    Unreachable { dir: PathBuf, error: io::Error },
    #[error("{0}")]
    Refused(String),
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <CutoverArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let arguments = CutoverArguments::parse_from(words);
    super::run("cutover", Builder::new_current_thread(), async {
        let patience = Duration::from_secs(arguments.timeout);
        let dir = arguments.data_dir;
        let answer = follow::cut_over(&dir, !arguments.no_fence, patience).await;
        let answer = answer.map_err(|error| CutoverCommandError::Unreachable { dir, error })?;
        crate::print(&answer.map_err(CutoverCommandError::Refused)?);
        Ok::<_, CutoverCommandError>(None::<Stop>)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        CutoverArguments::command().debug_assert();
    }
}
