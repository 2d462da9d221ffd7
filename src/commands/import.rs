//! `keelson import`: the data directory of a stopped etcd becomes one of ours.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use keelson_store::import::{self, ImportError, Unread};
use tokio::runtime::Builder;

use super::new_member::{NewEngine, NewMember, NewMemberError};
use crate::signals::Stop;

/// Make a data directory from that of a stopped etcd, of version 2 or 3, for a member of a new
/// cluster. Nothing that was committed is lost, and revisions go on. The etcd's files are only
/// read.
#[derive(Debug, Parser)]
#[command(name = "import", bin_name = "keelson import")]
struct ImportArguments {
    /// The etcd's data directory.
    from: PathBuf,
    /// The etcd's directory of its log, if it is another.
    #[arg(long)]
    from_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    member: NewMember,
    #[command(flatten)]
    engine: NewEngine,
}

#[derive(Debug, thiserror::Error)]
enum ImportCommandError {
    #[error("{} is a file: to restore a snapshot, use keelson util snapshot restore", .0.display())]
    File(PathBuf),
    #[error(transparent)]
    Member(#[from] NewMemberError),
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <ImportArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let arguments = ImportArguments::parse_from(words);
    super::run("import", Builder::new_current_thread(), async {
        arguments.run().map(|text| {
            crate::print(&text);
            None::<Stop>
        })
    })
}

impl ImportArguments {
    fn run(self) -> Result<String, ImportCommandError> {
        if self.from.is_file() {
            return Err(ImportCommandError::File(self.from));
        }
        let config = self.engine.of(self.member.config()?);
        let imported = import::import(&self.from, self.from_wal_dir.as_deref(), &config)?;
        let (cluster, member) = imported.identity;
        let mut text = format!(
            "imported into {}: member {member:x} ({}) of cluster {cluster:x}, revision {}, v2 \
             index {}; {} entries came from the log\n",
            config.data_dir.display(),
            config.name,
            imported.revision,
            imported.v2_index,
            imported.entries
        );
        if imported.beyond_log != 0 {
            text += &format!(
                "The database has {} entries more than the log, and was taken as it is: an etcd up \
                 to 3.4.20 or 3.5.4 that was killed may leave that. v2 keys lack these entries.\n",
                imported.beyond_log
            );
        }
        if let Some(Unread {
            path,
            offset,
            bytes,
        }) = imported.unread
        {
            text += &format!(
                "{}: {bytes} bytes from byte {offset} on are no whole record and were left out, \
                 as etcd would: a write that was cut off.\n",
                path.display()
            );
        }
        for member in imported.dropped {
            text += &format!("The etcd's member {member}.\n");
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        ImportArguments::command().debug_assert();
    }
}
