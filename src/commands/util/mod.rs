//! `keelson util`: etcdutl's commands for snapshots, with its flags and its output, and a check of
//! files.

mod check;
mod defrag;
mod input;
mod output;
mod restore;

use std::pin::Pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keelson_store::defrag::StoppedDefragError;
use keelson_store::snapshot::{self, InputError};
use tokio::runtime::Builder;

use self::input::{Input, OpenError};
use self::output::{Field, FieldRow, WriteOut};
use self::restore::{RestoreArguments, RestoreCommandError};
use crate::signals::Stop;

/// Work on files while no member uses them.
#[derive(Debug, Parser)]
#[command(name = "util", bin_name = "keelson util")]
struct UtilArguments {
    #[command(subcommand)]
    command: UtilCommand,
}

#[derive(Debug, Subcommand)]
enum UtilCommand {
    /// Snapshots, of Keelson and of etcd.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Return the room of deleted keys to the disk, of a stopped member.
    Defrag(defrag::DefragArguments),
    /// Read all of a data directory or of snapshots, and list what is damaged.
    Check(check::CheckArguments),
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Show hash, revision and size of a snapshot.
    Status(StatusArguments),
    /// Make a data directory from a snapshot.
    Restore(RestoreArguments),
    /// Show the HashKV of a snapshot, to compare it with a member's.
    Hashkv(HashArguments),
}

#[derive(Debug, Parser)]
struct StatusArguments {
    #[command(flatten)]
    input: Input,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    write_out: WriteOut,
}

#[derive(Debug, Parser)]
struct HashArguments {
    #[command(flatten)]
    input: Input,
    /// The last revision that is hashed; 0 for the newest.
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    write_out: WriteOut,
}

#[derive(Debug, thiserror::Error)]
enum UtilError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Defrag(#[from] StoppedDefragError),
    #[error(transparent)]
    Restore(#[from] RestoreCommandError),
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <UtilArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let arguments = UtilArguments::parse_from(words);
    let output: Pin<Box<dyn Future<Output = Result<String, UtilError>>>> = match arguments.command {
        UtilCommand::Check(arguments) => return arguments.run(),
        UtilCommand::Defrag(arguments) => Box::pin(async { Ok(arguments.run()?) }),
        UtilCommand::Snapshot(command) => Box::pin(command.run()),
    };
    super::run("util", Builder::new_current_thread(), async {
        output.await.map(|text| {
            crate::print(&text);
            None::<Stop>
        })
    })
}

impl SnapshotCommand {
    /// Runs it; blocks the thread, which has nothing else to do. Returns its output.
    async fn run(self) -> Result<String, UtilError> {
        match self {
            SnapshotCommand::Status(arguments) => arguments.run().await,
            SnapshotCommand::Restore(arguments) => Ok(arguments.run().await?),
            SnapshotCommand::Hashkv(arguments) => arguments.run().await,
        }
    }
}

impl StatusArguments {
    async fn run(self) -> Result<String, UtilError> {
        let opened = self.input.open(&std::env::temp_dir()).await?;
        let status = snapshot::status(&opened.file)?;
        let fields = [
            Field::number("Hash", "hash", status.hash).shown(format!("{:x}", status.hash)),
            Field::number("Revision", "revision", status.revision),
            Field::number("Total Keys", "totalKey", status.total_keys),
            Field::number("Total Size", "totalSize", status.total_bytes)
                .shown(output::size(status.total_bytes)),
        ];
        Ok(FieldRow(&fields).to_text(self.write_out))
    }
}

impl HashArguments {
    async fn run(self) -> Result<String, UtilError> {
        let opened = self.input.open(&std::env::temp_dir()).await?;
        let hash = snapshot::hash_kv(&opened.file, self.rev)?;
        let fields = [
            Field::number("Hash", "hash", hash.hash),
            Field::number("Hash Revision", "hashRevision", hash.hash_revision),
            Field::number("Compact Revision", "compactRevision", hash.compact_revision),
        ];
        Ok(FieldRow(&fields).to_text(self.write_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        UtilArguments::command().debug_assert();
    }
}
