//! `keelson replace`: replaces a member whose disk is gone, in one command: remove the old member,
//! add its successor as a learner, wait until that is started and in sync, promote it.
//!
//! Each step is found from the list of members, so a command that was interrupted is repeated.

mod cluster;
mod error;
mod plan;
mod screen;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use keelson_proxy::{ClientTls, ClientTlsFiles};
use tokio::runtime::Builder;

use self::cluster::ClusterEndpoints;
use self::error::ReplaceError;
use self::plan::Replacement;
use self::session::ReplaceSession;
use super::url_of;
use crate::signals::Stop;

/// Replace a member whose disk is gone: remove it, add a learner in its place, wait until that is
/// in sync, promote it. Repeat the command if it was interrupted.
#[derive(Debug, Parser)]
#[command(name = "replace", bin_name = "keelson replace")]
struct ReplaceArguments {
    /// The member to be replaced: its name, or its id in hexadecimal.
    member: String,
    /// Comma separated list of the other members' client addresses.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// Name of the successor [default: the old member's].
    #[arg(long)]
    name: Option<String>,
    /// Comma separated list of the successor's peer URLs [default: the old member's].
    #[arg(long, value_delimiter = ',')]
    peer_urls: Vec<String>,
    /// How long to wait until the successor is started and in sync.
    #[arg(long, default_value = "10m", value_parser = crate::flags::duration)]
    wait: Duration,
    /// TLS certificate presented to members.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// CA that members' certificates must be signed by [default: the system's CAs].
    #[arg(long)]
    cacert: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    super::run(
        "replace",
        Builder::new_current_thread(),
        ReplaceArguments::parse_from(words).run(),
    )
}

impl ReplaceArguments {
    async fn run(self) -> Result<Option<Stop>, ReplaceError> {
        let files = ClientTlsFiles {
            identity: self.cert.clone().zip(self.key.clone()),
            ca: self.cacert.clone(),
        };
        let secure = files != ClientTlsFiles::default();
        let urls = self.endpoints.iter().map(|one| url_of(one, secure));
        let cluster = ClusterEndpoints::new(urls.collect(), ClientTls::new(files)?);
        let mut session = ReplaceSession::new(cluster);
        let members = session.members().await?;
        let name = self.name.as_deref();
        let replacement = Replacement::find(&self.member, name, &self.peer_urls, &members)?;
        session.again_with(format!(
            ": keelson replace {} --endpoints {} --peer-urls {}",
            replacement.name,
            self.endpoints.join(","),
            replacement.peer_urls.join(",")
        ));
        session.replace(&replacement, self.wait).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        ReplaceArguments::command().debug_assert();
    }
}
