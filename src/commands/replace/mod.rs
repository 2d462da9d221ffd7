//! `keelson replace`: replaces a member whose disk is gone, in one command: remove the old member,
//! add its successor as a learner, wait until that is started and in sync, promote it.
//!
//! Each step is found from the list of members, so a command that was interrupted is repeated.

mod cluster;
mod error;
mod loopback;
mod plan;
mod screen;
mod session;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;

use self::cluster::ClusterEndpoints;
use self::error::ReplaceError;
use self::plan::Replacement;
use self::session::ReplaceSession;
use super::access::AccessArguments;
use super::url_of;
use crate::signals::Stop;

/// The default of --wait.
const WAIT: &str = "10m";

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
    #[arg(long, default_value = WAIT, value_parser = crate::flags::duration)]
    wait: Duration,
    /// Remove the member though it may run: nothing shows from here that it does not.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    access: AccessArguments,
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <ReplaceArguments as clap::CommandFactory>::command()
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
        let secure = self.access.is_secure();
        let urls = self.endpoints.iter().map(|one| url_of(one, secure));
        let cluster = ClusterEndpoints::new(urls.collect(), self.access.access()?);
        let mut session = ReplaceSession::new(cluster);
        let members = session.members().await?;
        let name = self.name.as_deref();
        let mut replacement = Replacement::find(&self.member, name, &self.peer_urls, &members)?;
        session.again_with(self.again(&replacement), self.force);
        session.replace(&mut replacement, self.wait).await?;
        Ok(None)
    }

    /// The command line that continues this replacement, without --force.
    fn again(&self, of: &Replacement) -> String {
        let own = [
            ("--name", (of.name != self.member).then(|| of.name.clone())),
            ("--endpoints", Some(self.endpoints.join(","))),
            ("--peer-urls", Some(of.peer_urls.join(","))),
            (
                "--wait",
                (crate::flags::duration(WAIT) != Ok(self.wait)).then(|| format!("{:?}", self.wait)),
            ),
        ];
        let mut line = format!("keelson replace {}", quoted(&self.member));
        for (flag, value) in own.into_iter().chain(self.access.shown()) {
            if let Some(value) = value {
                line.extend([" ", flag, " ", &quoted(&value)]);
            }
        }
        line
    }
}

/// The word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "-_./:,=@%+".contains(char);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
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

    fn again(line: &[&str]) -> String {
        let words = ["replace"].iter().chain(line);
        let arguments = ReplaceArguments::parse_from(words);
        let members = [keelson_proto::etcdserverpb::Member {
            id: 0xabc,
            name: "m2".to_owned(),
            peer_ur_ls: vec!["http://b:1".to_owned()],
            ..Default::default()
        }];
        let name = arguments.name.as_deref();
        let found = Replacement::find(&arguments.member, name, &arguments.peer_urls, &members);
        arguments.again(&found.expect("it is listed"))
    }

    /// It named the successor in place of the member, and left out all further flags.
    #[test]
    fn the_command_line_that_continues_a_replacement_has_its_member_and_flags() {
        let plain = "--endpoints 127.0.0.1:2379 --peer-urls http://b:1";
        assert_eq!(again(&["m2"]), format!("keelson replace m2 {plain}"));
        // After the removal, the name cannot be found by the id.
        let by_id = format!("keelson replace abc --name m2 {plain}");
        assert_eq!(again(&["abc"]), by_id);
        let all = "m2 --name n2 --endpoints a:1,c:1 --peer-urls http://d:1 --wait 90s \
                   --cert c.pem --key k.pem --cacert ca.pem --user root";
        let words: Vec<_> = all.split_whitespace().collect();
        assert_eq!(
            again(&words),
            format!("keelson replace {}", words.join(" "))
        );
        // A password is not printed.
        let secret = again(&["m2", "--user", "root:pw"]);
        assert!(secret.ends_with(" --user root"), "{secret}");
        let odd = again(&["m2", "--name", "it's n2", "--wait", "1500ms"]);
        assert!(
            odd.contains(r"--name 'it'\''s n2' ") && odd.contains("--wait 1.5s"),
            "{odd}"
        );
        let parsed = crate::flags::duration("1.5s");
        assert_eq!(parsed, Ok(Duration::from_millis(1500)));
    }
}
