//! `keelson follow`: a member that is a live standby of another cluster, revision by revision.
//!
//! The standby is begun from a snapshot of the source (`begin`), and then follows its watch
//! (`follower`). Its own log has the changes, with the source's revisions; until `keelson cutover`
//! opens it (`cutover`), its state machine refuses those of clients.

mod batch;
mod begin;
mod control;
mod cutover;
mod error;
mod follower;
mod poll;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod users;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use keelson_store::Store;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{error, info, warn};

use self::begin::Marker;
use super::access::{AccessArguments, MemberAccess};
use super::url_of;
use crate::flags::Values;
use crate::flags::syntax::{self, Parsed};
use crate::host::{self, Companion};
use crate::options::HostOptions;

/// How long the answer to a cut-over may take before the standby begins anew.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Run a member that follows another cluster, and serves its reads at the same revisions. Every
/// other flag is one of a member: --data-dir, --name, --listen-client-urls and so on.
///
/// It begins with a snapshot of the source, and refuses writes until keelson cutover opens it. v2
/// keys are followed over the v2 API of the source, if it serves that.
#[derive(Debug, Parser)]
#[command(name = "follow", bin_name = "keelson follow")]
struct FollowArguments {
    /// Members of the source, which is an etcd 3.4 or later, or Keelson.
    #[arg(long, required = true, value_delimiter = ',')]
    from: Vec<String>,
    /// A hidden directory of v2 keys, such as /_coreos.com; may be repeated. No listing shows those
    /// that were written before: others are followed from their first change on.
    #[arg(long, value_name = "DIRECTORY")]
    v2_hidden: Vec<String>,
    /// Follow no v2 keys. Those of the snapshot of a source that is Keelson stay as they are.
    #[arg(long)]
    without_v2: bool,
    #[command(flatten)]
    access: AccessArguments,
}

/// What is followed.
#[derive(Clone)]
struct FollowPlan {
    urls: Vec<String>,
    /// Whether v2 keys are followed.
    v2: bool,
    /// Hidden directories of v2 keys.
    hidden: Vec<String>,
    access: Arc<MemberAccess>,
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <FollowArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(program: &str, words: &[String]) -> ExitCode {
    let (own, of_host) = split(words);
    if of_host.iter().any(|word| word == "--help" || word == "-h") {
        FollowArguments::parse_from(["follow", "--help"]);
    }
    let arguments = FollowArguments::parse_from(own);
    let values = match syntax::parse(&of_host) {
        Ok(Parsed::Member(values)) => values,
        Ok(_) => return refuse("give the flags of a member, without --version"),
        Err(error) => return refuse(&error.to_string()),
    };
    let plan = match arguments.access.access() {
        Ok(access) => {
            let secure = arguments.access.is_secure();
            let urls = arguments.from.iter().map(|from| url_of(from, secure));
            FollowPlan {
                urls: urls.collect(),
                v2: !arguments.without_v2,
                hidden: arguments.v2_hidden.iter().map(|dir| hidden(dir)).collect(),
                access: Arc::new(access),
            }
        }
        Err(error) => return refuse(&error.to_string()),
    };
    crate::with_log(program, values, |values| {
        crate::end_with_stdin();
        run_until_ended(program, values, &plan)
    })
}

/// A directory with one slash in front of each name.
fn hidden(dir: &str) -> String {
    let names = dir.split('/').filter(|name| !name.is_empty());
    names.map(|name| format!("/{name}")).collect()
}

fn refuse(fault: &str) -> ExitCode {
    eprintln!("keelson follow: {fault}");
    ExitCode::FAILURE
}

/// Separates the flags of this command, with their values, from those of a member.
fn split(words: &[String]) -> (Vec<String>, Vec<String>) {
    let command = FollowArguments::command();
    let own_flag = |name: &str| {
        let mut flags = command.get_arguments();
        flags.find(|arg| arg.get_long() == Some(name))
    };
    let (mut own, mut of_host) = (vec!["follow".to_owned()], Vec::new());
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let flag = word.strip_prefix("--").unwrap_or_default();
        let (name, value) = match flag.split_once('=') {
            Some((name, _)) => (name, true),
            None => (flag, false),
        };
        let Some(flag) = own_flag(name) else {
            of_host.push(word.clone());
            continue;
        };
        own.push(word.clone());
        if !value && flag.get_action().takes_values() {
            own.extend(words.next().cloned());
        }
    }
    (own, of_host)
}

/// Runs the member; again from a new snapshot whenever it cannot go on.
fn run_until_ended(program: &str, values: &Values, plan: &FollowPlan) -> ExitCode {
    let mut is_anew = false;
    loop {
        let options = match HostOptions::from_values(values) {
            Ok(options) => options,
            Err(fault) => return crate::refuse_flags(program, &fault.to_string()),
        };
        let marker = match begin::begin(&options, plan, is_anew) {
            Ok(marker) => marker,
            Err(fault) => {
                error!(error = %fault, plain = %fault, "the standby cannot begin");
                return ExitCode::FAILURE;
            }
        };
        let anew = Arc::new(Mutex::new(None));
        let companion = companion(plan.clone(), marker, Arc::clone(&anew));
        if let Some(code) = host::run_with(program, options, Some(companion)) {
            return code;
        }
        match anew.lock().take() {
            Some(Anew::Alone(why)) => {
                warn!(why, "the standby begins anew, with another snapshot");
                is_anew = true;
            }
            Some(Anew::Several(why)) => {
                error!(
                    why,
                    "the standby must begin anew, and has several members: remove the others' \
                     data, and keelson follow with one"
                );
                return ExitCode::FAILURE;
            }
            None => is_anew = false,
        }
    }
}

/// Why a standby must begin anew.
#[derive(Debug)]
enum Anew {
    /// It is the only member.
    Alone(String),
    /// Other members would keep the former state.
    Several(String),
}

/// The task beside the member. It ends if the standby must begin anew.
fn companion(
    plan: FollowPlan,
    marker: Option<Marker>,
    anew: Arc<Mutex<Option<Anew>>>,
) -> Companion {
    Box::new(move |store: Store| {
        Box::pin(async move {
            store.ready().await;
            if !store.is_standby() {
                info!("this cluster was opened by keelson cutover, and follows no other one");
                return std::future::pending().await;
            }
            let (requests, cutovers) = mpsc::channel(1);
            let dir = store.config().data_dir.clone();
            let control = control::serve(dir, requests);
            tokio::pin!(control);
            let follow = follower::follow(store.clone(), plan, marker, cutovers);
            let why = tokio::select! {
                why = follow => why,
                never = &mut control => match never {},
            };
            match why {
                Some(why) => {
                    let is_alone = store.member_count() == 1;
                    *anew.lock() = Some(match is_alone {
                        true => Anew::Alone(why),
                        false => Anew::Several(why),
                    });
                    // The answer to a cut-over may still have to be sent.
                    let _ = timeout(ANSWER_TIME, control).await;
                }
                // The answer to the cut-over is still to be sent.
                None => match control.await {},
            }
        })
    })
}

/// Requests the cut-over of the standby with this data directory. Returns what it answers: what is
/// to be printed, or why it is not open.
pub(super) async fn cut_over(
    data_dir: &Path,
    fence: bool,
    patience: Duration,
) -> io::Result<Result<String, String>> {
    control::ask(data_dir, fence, patience).await
}
