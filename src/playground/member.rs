//! One member as the playground sees it: a child process and what it answers.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use keelson_proto::etcdserverpb::StatusRequest;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::plan::MemberPlan;
use crate::environment;

/// How long a member may take to answer; more is no answer.
const ANSWER_MAX: Duration = Duration::from_millis(400);

/// Lines of a log that are shown when its member could not start.
const TAIL_LINES: usize = 15;

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The process runs; it has not answered yet.
    Starting,
    /// It answered.
    Up(Answer),
    /// The process runs and does not answer.
    Silent,
    /// The process is gone; how it ended.
    Down(String),
}

/// What `Status` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) id: u64,
    /// 0: it knows none.
    pub(super) leader: u64,
    pub(super) is_learner: bool,
    pub(super) term: u64,
    pub(super) revision: i64,
    pub(super) db_bytes: i64,
}

impl Answer {
    pub(super) fn role(&self) -> &'static str {
        match self {
            Answer { leader: 0, .. } => "no leader",
            Answer { id, leader, .. } if id == leader => "leader",
            Answer {
                is_learner: true, ..
            } => "learner",
            _ => "follower",
        }
    }
}

/// A member of the playground.
pub(super) struct Member {
    pub(super) plan: MemberPlan,
    pub(super) state: State,
    child: Child,
    client: MaintenanceClient<Channel>,
}

impl Member {
    /// Starts the process; its log goes to the file of the plan.
    pub(super) fn start(plan: MemberPlan) -> io::Result<Member> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", plan.client_port))
            .map_err(io::Error::other)?
            .connect_timeout(ANSWER_MAX)
            .timeout(ANSWER_MAX);
        let child = spawn(&plan)?;
        let client = MaintenanceClient::new(endpoint.connect_lazy());
        Ok(Member {
            plan,
            state: State::Starting,
            child,
            client,
        })
    }

    /// Starts it again, on the data it has.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.child = spawn(&self.plan)?;
        self.state = State::Starting;
        Ok(())
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Down(_))
    }

    /// Whether it answers and knows a leader.
    pub(super) fn serves(&self) -> bool {
        matches!(&self.state, State::Up(answer) if answer.leader != 0)
    }

    /// Its process, while there is one.
    pub(super) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) {
        let process = self.process().and_then(|id| i32::try_from(id).ok());
        if let Some(process) = process.and_then(rustix::process::Pid::from_raw) {
            // An error means that it is gone already.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
    }

    /// Ends it now, and waits until it is gone. Does nothing when it is.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.plan.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        let tail: Vec<String> = lines[from..]
            .iter()
            .map(|line| format!("  {line}"))
            .collect();
        tail.join("\n")
    }

    fn take(&mut self, answer: Option<Answer>) {
        if let Ok(Some(status)) = self.child.try_wait() {
            self.state = State::Down(describe(status));
            return;
        }
        self.state = match (answer, &self.state) {
            (Some(answer), _) => State::Up(answer),
            (None, State::Starting) => State::Starting,
            (None, _) => State::Silent,
        };
    }
}

fn spawn(plan: &MemberPlan) -> io::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&plan.log)?;
    let program = match environment::variable(environment::PLAYGROUND_BINARY) {
        Some(program) => PathBuf::from(program),
        None => std::env::current_exe()?,
    };
    let mut command = Command::new(program);
    // What the user has in the environment is meant for one member, not for all of these.
    for (name, _) in environment::etcd_variables() {
        command.env_remove(name);
    }
    command
        .args(&plan.flags)
        .env(environment::END_WITH_STDIN, "1")
        // Never written to: when this process ends, however it ends, the pipe closes.
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C on the terminal is for the playground, which ends the members in its own way.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Asks all members at once and notes what they say.
pub(super) async fn observe_all(members: &mut [Member]) {
    let mut asked = JoinSet::new();
    for (number, member) in members
        .iter()
        .enumerate()
        .filter(|(_, member)| !member.is_down())
    {
        let client = member.client.clone();
        asked.spawn(async move { (number, ask(client).await) });
    }
    while let Some(answered) = asked.join_next().await {
        if let Ok((number, answer)) = answered {
            members[number].take(answer);
        }
    }
}

async fn ask(mut client: MaintenanceClient<Channel>) -> Option<Answer> {
    let asked = tokio::time::timeout(ANSWER_MAX, client.status(StatusRequest::default()));
    let status = asked.await.ok()?.ok()?.into_inner();
    let header = status.header.unwrap_or_default();
    Some(Answer {
        id: header.member_id,
        leader: status.leader,
        is_learner: status.is_learner,
        term: status.raft_term,
        revision: header.revision,
        db_bytes: status.db_size,
    })
}

/// Returns when every process is gone.
pub(super) async fn all_ended(members: &mut [Member]) {
    for member in members {
        let _ = member.child.wait().await;
    }
}
