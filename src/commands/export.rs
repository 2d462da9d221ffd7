//! `keelson export`: a data directory of etcd from a stopped member, a snapshot, or a running
//! cluster.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use keelson_proto::etcdserverpb::SnapshotRequest;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_store::internals::disk::{Disk, DiskFile, RealDisk};
use keelson_store::snapshot::{self, ExportError, Exported, InputError, SnapshotFile};
use tokio::runtime::Builder;
use tonic::Status;

use super::access::{self, AccessArguments, AccessError};
use super::new_member::{NewMember, NewMemberError};
use super::url_of;
use crate::signals::Stop;

/// The longest wait for the next part of a snapshot.
const PART_MAX: Duration = Duration::from_secs(60);
/// The end of the name of the snapshot, beside the new directory, while it is needed.
const PART: &str = ".export.part";

/// Make a data directory of etcd, on which etcd 3.4 and later start, with the same revisions:
/// keys, leases, users, roles, alarms, and v2 keys with their indices. Run it for each member of
/// the new cluster, with the same source and the same --initial-cluster.
#[derive(Debug, Parser)]
#[command(name = "export", bin_name = "keelson export")]
struct ExportArguments {
    /// The data directory of a stopped member, or a snapshot.
    #[arg(required_unless_present = "endpoints", conflicts_with = "endpoints")]
    from: Option<PathBuf>,
    /// The stopped member's directory of its log, if it is another.
    #[arg(long, requires = "from")]
    from_wal_dir: Option<PathBuf>,
    /// A member of a running cluster, whose snapshot is taken; several are tried in turn.
    #[arg(long, value_delimiter = ',')]
    endpoints: Vec<String>,
    #[command(flatten)]
    access: AccessArguments,
    #[command(flatten)]
    member: NewMember,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ExportCommandError {
    #[error(transparent)]
    Member(#[from] NewMemberError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("cannot write {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{url}: {}{}", status.message(), remedy(status))]
    Call { url: String, status: Status },
}

fn remedy(status: &Status) -> String {
    let remedy = access::remedy(status);
    remedy.map_or_else(String::new, |remedy| format!(". {remedy}"))
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <ExportArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let arguments = ExportArguments::parse_from(words);
    super::run("export", Builder::new_current_thread(), async {
        let text = arguments.run().await?;
        crate::print(&text);
        Ok::<_, ExportCommandError>(None::<Stop>)
    })
}

impl ExportArguments {
    async fn run(self) -> Result<String, ExportCommandError> {
        let config = self.member.config()?;
        let mut part = config.data_dir.clone().into_os_string();
        part.push(PART);
        let part = PathBuf::from(part);
        let exported = self.export(&config, &part).await;
        let _ = RealDisk.remove(&part);
        let (exported, note) = exported?;
        Ok(text(&config, exported) + &note)
    }

    /// Exports, with the file at `part` for a snapshot. Returns what else is to be printed.
    async fn export(
        &self,
        config: &keelson_store::Config,
        part: &Path,
    ) -> Result<(Exported, String), ExportCommandError> {
        let mut note = String::new();
        let snapshot = match &self.from {
            Some(from) if from.is_file() => from.as_path(),
            Some(from) => {
                let stopped = snapshot::of_stopped(from, self.from_wal_dir.as_deref(), part)?;
                if 0 < stopped.undecided {
                    note = format!(
                        "The last {} entries of its log are left out: this member does not know \
                         whether they are committed. Export the member that was the leader, or \
                         the running cluster with --endpoints.\n",
                        stopped.undecided
                    );
                }
                part
            }
            None => {
                self.download(part).await?;
                note = "What the cluster is written from now on is not in it, and etcd will give \
                        its revisions to other changes: stop the writers first.\n"
                    .to_owned();
                part
            }
        };
        let file = SnapshotFile::open(snapshot)?;
        if self.from.is_none() {
            file.check_sum()?;
        }
        Ok((snapshot::export(&file, config)?, note))
    }

    /// Writes the snapshot of the first member that sends one.
    async fn download(&self, path: &Path) -> Result<(), ExportCommandError> {
        let access = self.access.access()?;
        let mut last = None;
        for endpoint in &self.endpoints {
            let url = url_of(endpoint, self.access.is_secure());
            match download(&access, &url, path).await {
                Err(error @ ExportCommandError::Call { .. }) => last = Some(error),
                other => return other,
            }
        }
        last.map_or(Ok(()), Err)
    }
}

/// Writes the snapshot of the member at a URL to a file.
///
/// # Errors
/// The call or the file has failed.
pub(super) async fn download(
    access: &access::MemberAccess,
    url: &str,
    path: &Path,
) -> Result<(), ExportCommandError> {
    let called = |status| ExportCommandError::Call {
        url: url.to_owned(),
        status,
    };
    let failed = |error| ExportCommandError::Io {
        path: path.to_owned(),
        error,
    };
    let channel = access.connect(url, PART_MAX).await.map_err(called)?;
    let mut maintenance = MaintenanceClient::new(channel);
    let begun = maintenance.snapshot(SnapshotRequest::default()).await;
    let mut parts = begun.map_err(called)?.into_inner();
    let _ = RealDisk.remove(path);
    let file = RealDisk.create(path).map_err(failed)?;
    let mut at = 0;
    let late = |_| {
        called(Status::deadline_exceeded(
            "it sends no more of its snapshot",
        ))
    };
    while let Some(part) = tokio::time::timeout(PART_MAX, parts.message())
        .await
        .map_err(late)?
        .map_err(called)?
    {
        file.write_at(at, &part.blob).map_err(failed)?;
        at += part.blob.len() as u64;
    }
    Ok(())
}

fn text(config: &keelson_store::Config, exported: Exported) -> String {
    let ((cluster, member), (index, keys)) = (exported.identity, exported.v2);
    let mut text = format!(
        "exported into {}, for etcd: member {member:x} ({}) of cluster {cluster:x}, revision {}, \
         v2 index {index} with {keys} keys and directories\n",
        config.data_dir.display(),
        config.name,
        exported.revision,
    );
    if keys != 0 {
        text += "etcd 3.4 and 3.5 serve v2 keys with --enable-v2; etcd 3.6 and later do not start \
                 on them: delete them first.\n";
    }
    for member in exported.dropped {
        text += &format!("The source's member {member}.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        ExportArguments::command().debug_assert();
    }
}
