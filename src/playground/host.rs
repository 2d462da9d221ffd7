//! A host of the playground: a child process, the role in its data directory, and its latest
//! status.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keelson_proto::etcdserverpb::StatusRequest;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proxy::ClientTls;
use keelson_store::StateError;
use tokio::process::Child;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::child;
use super::plan::HostPlan;
use super::secure::Secure;
use crate::commands::channel;
use crate::environment;
use crate::host::data_dir::DirectoryRole;

/// Time limit for a status request.
const ANSWER_MAX: Duration = Duration::from_millis(400);

/// The state of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostState {
    /// The process runs; it has not answered yet.
    Starting,
    /// It answered.
    Up(StatusAnswer),
    /// The process runs, but does not answer.
    Silent,
    /// The process has ended; the text is how.
    Down(String),
}

/// The answer to `Status`. A proxy forwards a member's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatusAnswer {
    pub(super) id: u64,
    /// The leader's id; 0 if the member has none.
    pub(super) leader: u64,
    pub(super) is_learner: bool,
    pub(super) term: u64,
    /// The revision, and the bytes of the database; `None` where auth keeps them from a caller
    /// without a user.
    pub(super) size: Option<(i64, i64)>,
}

impl StatusAnswer {
    pub(super) fn role(&self) -> &'static str {
        match self {
            StatusAnswer { leader: 0, .. } => "no leader",
            StatusAnswer { id, leader, .. } if id == leader => "leader",
            StatusAnswer {
                is_learner: true, ..
            } => "learner",
            _ => "follower",
        }
    }
}

/// A host of the playground.
pub(super) struct Host {
    pub(super) plan: HostPlan,
    pub(super) state: HostState,
    /// Its role, read from its data directory.
    became: DirectoryRole,
    child: Child,
    client: MaintenanceClient<Channel>,
    secure: Option<Arc<Secure>>,
}

impl Host {
    /// Starts the process; its log goes to the plan's file.
    pub(super) fn start(plan: HostPlan, secure: Option<Arc<Secure>>) -> io::Result<Host> {
        let channel = match &secure {
            Some(secure) => secure.channel(&plan.client_url, ANSWER_MAX),
            None => channel::lazy(&plan.client_url, &ClientTls::default(), ANSWER_MAX),
        };
        let client = MaintenanceClient::new(channel.map_err(io::Error::other)?);
        let child = spawn(&plan)?;
        Ok(Host {
            plan,
            state: HostState::Starting,
            became: DirectoryRole::Undecided,
            child,
            client,
            secure,
        })
    }

    /// Starts the process again, on its existing data.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.child = spawn(&self.plan)?;
        self.state = HostState::Starting;
        Ok(())
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, HostState::Down(_))
    }

    pub(super) fn is_member(&self) -> bool {
        self.became == DirectoryRole::Member
    }

    pub(super) fn is_proxy(&self) -> bool {
        self.became == DirectoryRole::Proxy
    }

    /// Whether it answers, itself or for a member, and there is a leader.
    pub(super) fn serves(&self) -> bool {
        matches!(&self.state, HostState::Up(answer) if answer.leader != 0)
    }

    /// Its role in one word or two.
    pub(super) fn role(&self) -> &'static str {
        match &self.state {
            HostState::Up(_) if self.is_proxy() => "proxy",
            HostState::Up(answer) => answer.role(),
            HostState::Starting => "starting",
            HostState::Silent => "no answer",
            HostState::Down(_) => "down",
        }
    }

    /// Its process id while it runs.
    pub(super) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub(super) fn terminate(&self) {
        child::terminate(&self.child);
    }

    /// Kills the process and waits for its end. Has no effect after its end.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Returns when its process has ended.
    pub(super) async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        child::tail(&self.plan.log)
    }

    fn take(&mut self, answer: Option<StatusAnswer>) {
        if let Ok(Some(status)) = self.child.try_wait() {
            self.state = HostState::Down(child::describe(status));
            return;
        }
        // A directory that cannot be read is the host's own error, which its log reports.
        self.became = DirectoryRole::of(&self.plan.data_dir).unwrap_or(self.became);
        self.state = match (answer, &self.state) {
            (Some(answer), _) => HostState::Up(answer),
            (None, HostState::Starting) => HostState::Starting,
            (None, _) => HostState::Silent,
        };
    }
}

fn spawn(plan: &HostPlan) -> io::Result<Child> {
    let program = match environment::variable(environment::PLAYGROUND_BINARY) {
        Some(program) => PathBuf::from(program),
        None => child::own_program()?,
    };
    child::spawn(&program, &plan.flags, &plan.log)
}

/// Requests the status of all hosts at once and records the answers.
pub(super) async fn observe_all(hosts: &mut [Host]) {
    let mut asked = JoinSet::new();
    let token = token(hosts).await;
    for (number, host) in hosts.iter().enumerate().filter(|(_, host)| !host.is_down()) {
        let (client, token, secure) = (host.client.clone(), token.clone(), host.secure.clone());
        let url = host.plan.client_url.clone();
        asked.spawn(async move { (number, ask(client, &url, token, secure).await) });
    }
    while let Some(answered) = asked.join_next().await {
        if let Ok((number, answer)) = answered {
            hosts[number].take(answer);
        }
    }
}

/// The token of the user `root`, where hosts require one.
async fn token(hosts: &[Host]) -> Option<String> {
    let up = |host: &&Host| matches!(host.state, HostState::Up(_));
    let host = hosts
        .iter()
        .find(up)
        .or_else(|| hosts.iter().find(|host| !host.is_down()))?;
    host.secure.as_ref()?.token(&host.plan.client_url).await
}

async fn ask(
    mut client: MaintenanceClient<Channel>,
    url: &str,
    token: Option<String>,
    secure: Option<Arc<Secure>>,
) -> Option<StatusAnswer> {
    let mut request = Request::new(StatusRequest::default());
    if let Some(token) = token.and_then(|token| token.parse().ok()) {
        request.metadata_mut().insert("token", token);
    }
    let asked = tokio::time::timeout(ANSWER_MAX, client.status(request));
    let status = match (asked.await.ok()?, secure) {
        (Ok(answer), _) => answer.into_inner(),
        (Err(status), Some(secure)) => {
            secure.refused(&status);
            return None;
        }
        (Err(refused), None) if needs_user(&refused) => return variables(url).await,
        (Err(_), None) => return None,
    };
    let header = status.header.unwrap_or_default();
    Some(StatusAnswer {
        id: header.member_id,
        leader: status.leader,
        is_learner: status.is_learner,
        term: status.raft_term,
        size: Some((header.revision, status.db_size)),
    })
}

/// Whether the user of the playground has enabled auth: a member that refuses so is alive.
fn needs_user(refused: &Status) -> bool {
    let is = |error: StateError| refused.message() == error.to_string();
    is(StateError::UserEmpty) || is(StateError::PermissionDenied)
}

/// What `/debug/vars`, which needs no user, has of a member's status.
async fn variables(url: &str) -> Option<StatusAnswer> {
    let url = format!("{url}/debug/vars");
    let answer = channel::get(&url, &ClientTls::default(), ANSWER_MAX).await;
    raft_status(&answer.ok()?.1)
}

fn raft_status(answer: &[u8]) -> Option<StatusAnswer> {
    #[derive(serde::Deserialize)]
    struct Variables {
        #[serde(rename = "raft.status")]
        raft: Raft,
    }
    #[derive(serde::Deserialize)]
    struct Raft {
        id: String,
        lead: String,
        term: u64,
    }
    let variables: Variables = serde_json::from_slice(answer).ok()?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(StatusAnswer {
        id: number(&variables.raft.id)?,
        leader: number(&variables.raft.lead)?,
        is_learner: false,
        term: variables.raft.term,
        size: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once its user had enabled auth, "no answer" was shown for each member, and the playground
    /// did not start again.
    #[test]
    fn a_member_that_needs_a_user_is_alive() {
        for error in [StateError::UserEmpty, StateError::PermissionDenied] {
            assert!(needs_user(&Status::invalid_argument(error.to_string())));
        }
        assert!(!needs_user(&Status::unavailable("connection refused")));
        let answer = "{\n\"cmdline\": [],\n\
                      \"raft.status\": {\"id\":\"a1\",\"term\":7,\"commit\":9,\"lead\":\"b2\",\
                      \"raftState\":\"StateFollower\",\"applied\":9}\n}\n";
        let status = raft_status(answer.as_bytes()).expect("all that is needed");
        assert_eq!((status.id, status.leader, status.term), (0xa1, 0xb2, 7));
        assert_eq!((status.role(), status.size), ("follower", None));
        assert_eq!(raft_status(b"{}"), None);
    }
}
