//! `keelson promote`: makes a proxy's host a member, at an operator's command. The host begins as a
//! learner, and votes once it is in sync (`host/promotion.rs`). A voter that never starts would
//! only count against the quorum.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::{Member, MemberAddRequest, MemberListRequest};
use tokio::runtime::Builder;
use tonic::Status;

use super::access::{AccessArguments, AccessError, MemberAccess, MemberChannel, remedy};
use crate::host::data_dir::{self, DirectoryError, DirectoryRole};
use crate::signals::Stop;

/// A change of members is answered in this time, with a refusal at the latest.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Add a proxy's host to its cluster as a member. Stop the proxy first.
#[derive(Debug, Parser)]
#[command(name = "promote", bin_name = "keelson promote")]
struct PromoteArguments {
    /// The proxy's data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// The name of the new member.
    #[arg(long)]
    name: String,
    /// Comma separated list of the peer URLs at which members reach it.
    #[arg(long, value_delimiter = ',', required = true)]
    initial_advertise_peer_urls: Vec<String>,
    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Debug, thiserror::Error)]
enum PromoteCommandError {
    #[error("{0}")]
    DataDir(#[from] DirectoryError),
    #[error("{0}")]
    Access(#[from] AccessError),
    #[error("the cluster refuses to add a member: {0}; {1}")]
    User(String, &'static str),
    #[error("{0} is not a proxy's data directory: there is no {0}/proxy")]
    NotAProxy(PathBuf),
    #[error(
        "no member of the proxy's cluster answers on its peer URL; the promotion needs a cluster \
         that works"
    )]
    NoMemberAnswers,
    #[error(
        "no member can be reached at its client URLs ({0}); check that the members run and that \
         this host can connect to them"
    )]
    Unreachable(String),
    /// Not retried: the cluster may have added the member.
    #[error(
        "the cluster did not confirm the new member: {0}. If the outcome is unknown, check \
         `etcdctl member list` before another attempt"
    )]
    Refused(String),
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <PromoteArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    super::run(
        "promote",
        Builder::new_current_thread(),
        PromoteArguments::parse_from(words).run(),
    )
}

impl PromoteArguments {
    async fn run(self) -> Result<Option<Stop>, PromoteCommandError> {
        let is_proxy = DirectoryRole::of(&self.data_dir)? == DirectoryRole::Proxy;
        // A running proxy would lose its directory.
        let _lock = is_proxy
            .then(|| data_dir::lock(&self.data_dir))
            .transpose()?;
        let peer_urls = data_dir::peer_urls_of_proxy(&self.data_dir)?;
        let peer_urls =
            peer_urls.ok_or_else(|| PromoteCommandError::NotAProxy(self.data_dir.clone()))?;
        let access = self.access.access()?;
        let client_urls = keelson_proxy::fetch_client_urls(peer_urls, access.tls().clone()).await;
        let client_urls = client_urls.ok_or(PromoteCommandError::NoMemberAnswers)?;
        let channel = first_of(&client_urls, &access).await?;
        let request = MemberAddRequest {
            peer_ur_ls: self.initial_advertise_peer_urls.clone(),
            is_learner: true,
        };
        let mut client = ClusterClient::new(channel);
        let (new, members) = match self.added_before(&mut client).await? {
            Some(added) => added,
            None => {
                let added = client.member_add(request).await.map_err(refused)?;
                let added = added.into_inner();
                (added.member.unwrap_or_default().id, added.members)
            }
        };
        data_dir::forget_proxy(&self.data_dir)?;
        println!(
            "Member {new:x} added as a learner; it votes once it is in sync. Start the host \
             without --discovery and --proxy, and with these variables:"
        );
        print!("{}", super::joining::variables(new, &self.name, &members));
        Ok(None)
    }

    /// Finds the learner of an attempt that was cut short: the member is in the list and has never
    /// started. The list is not linearizable, since the quorum may need the new member.
    ///
    /// # Errors
    /// The cluster refuses the user.
    async fn added_before(
        &self,
        client: &mut ClusterClient<MemberChannel>,
    ) -> Result<Option<(u64, Vec<Member>)>, PromoteCommandError> {
        let request = MemberListRequest {
            linearizable: false,
        };
        let members = match client.member_list(request).await {
            Ok(listed) => listed.into_inner().members,
            Err(status) if remedy(&status).is_some() => return Err(refused(status)),
            Err(_) => return Ok(None),
        };
        let mut wanted = self.initial_advertise_peer_urls.clone();
        wanted.sort_unstable();
        let is_it = |member: &&Member| {
            let mut urls = member.peer_ur_ls.clone();
            urls.sort_unstable();
            member.name.is_empty() && urls == wanted
        };
        let id = members.iter().find(is_it).map(|found| found.id);
        Ok(id.map(|id| (id, members)))
    }
}

fn refused(status: Status) -> PromoteCommandError {
    let text = status.message().to_owned();
    match remedy(&status) {
        Some(remedy) => PromoteCommandError::User(text, remedy),
        None => PromoteCommandError::Refused(text),
    }
}

async fn first_of(
    client_urls: &[String],
    access: &MemberAccess,
) -> Result<MemberChannel, PromoteCommandError> {
    for url in client_urls {
        match access.connect(url, ANSWER_MAX).await {
            Ok(channel) => return Ok(channel),
            Err(status) if remedy(&status).is_some() => return Err(refused(status)),
            Err(_) => {}
        }
    }
    Err(PromoteCommandError::Unreachable(client_urls.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        PromoteArguments::command().debug_assert();
    }
}
