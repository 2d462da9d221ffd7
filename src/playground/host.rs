//! One host as the playground sees it: a child process, what its data directory says it became, and
//! what it answers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use keelson_proto::etcdserverpb::StatusRequest;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proxy::Role;
use tokio::process::Child;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::child;
use super::plan::{self, HostPlan};
use crate::environment;

/// How long a host may take to answer; more is no answer.
const ANSWER_MAX: Duration = Duration::from_millis(400);

/// What is known of a host.
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

/// What `Status` said. A proxy passes on what a member says of itself.
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

/// A host of the playground.
pub(super) struct Host {
    pub(super) plan: HostPlan,
    pub(super) state: State,
    /// What it became, as its data directory says.
    became: Role,
    child: Child,
    client: MaintenanceClient<Channel>,
}

impl Host {
    /// Starts the process; its log goes to the file of the plan.
    pub(super) fn start(plan: HostPlan) -> io::Result<Host> {
        let endpoint = Endpoint::from_shared(plan::url(plan.client_port))
            .map_err(io::Error::other)?
            .connect_timeout(ANSWER_MAX)
            .timeout(ANSWER_MAX);
        let child = spawn(&plan)?;
        let client = MaintenanceClient::new(endpoint.connect_lazy());
        Ok(Host {
            plan,
            state: State::Starting,
            became: Role::Undecided,
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

    pub(super) fn is_member(&self) -> bool {
        self.became == Role::Member
    }

    pub(super) fn is_proxy(&self) -> bool {
        self.became == Role::Proxy
    }

    /// Whether it answers, itself or for a member, and a leader is known.
    pub(super) fn serves(&self) -> bool {
        matches!(&self.state, State::Up(answer) if answer.leader != 0)
    }

    /// In one word or two.
    pub(super) fn role(&self) -> &'static str {
        match &self.state {
            State::Up(_) if self.is_proxy() => "proxy",
            State::Up(answer) => answer.role(),
            State::Starting => "starting",
            State::Silent => "no answer",
            State::Down(_) => "down",
        }
    }

    /// Its process, while there is one.
    pub(super) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) {
        child::terminate(&self.child);
    }

    /// Ends it now, and waits until it is gone. Does nothing when it is.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Returns when its process is gone.
    pub(super) async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        child::tail(&self.plan.log)
    }

    fn take(&mut self, answer: Option<Answer>) {
        if let Ok(Some(status)) = self.child.try_wait() {
            self.state = State::Down(child::describe(status));
            return;
        }
        // A directory that cannot be read is the host's trouble, and it will say so.
        self.became = Role::of(&self.plan.data_dir).unwrap_or(self.became);
        self.state = match (answer, &self.state) {
            (Some(answer), _) => State::Up(answer),
            (None, State::Starting) => State::Starting,
            (None, _) => State::Silent,
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

/// Asks all hosts at once and notes what they say.
pub(super) async fn observe_all(hosts: &mut [Host]) {
    let mut asked = JoinSet::new();
    for (number, host) in hosts.iter().enumerate().filter(|(_, host)| !host.is_down()) {
        let client = host.client.clone();
        asked.spawn(async move { (number, ask(client).await) });
    }
    while let Some(answered) = asked.join_next().await {
        if let Ok((number, answer)) = answered {
            hosts[number].take(answer);
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
