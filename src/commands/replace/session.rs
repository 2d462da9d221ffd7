//! A replacement in progress: its steps, and what their failures mean.

use std::time::Duration;

use keelson_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest,
};
use keelson_store::{Error, StateError};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::cluster::{ClusterEndpoints, MemberAnswer, passes};
use super::error::{LivenessDoubt, ReplaceError, names};
use super::loopback;
use super::plan::{ReplaceStep, Replacement};
use super::screen::ProgressLine;
use crate::commands::access::{remedy, text_is};
use crate::commands::joining;

/// The pause between two looks at the list.
const POLL: Duration = Duration::from_millis(300);

/// For so long a refusal or a failure may pass: right after an election voters count as silent.
const PASSING: Duration = Duration::from_secs(20);

/// The call that begins each step.
const LIST: &str = "list the members";

/// The call that precedes a removal.
const CHECK: &str = "check the voters";

/// A replacement in progress.
pub(super) struct ReplaceSession {
    cluster: ClusterEndpoints,
    screen: ProgressLine,
    /// The command line that continues it, without --force.
    again: String,
    /// The member is removed though it may run. Cleared by its removal: a repeated command must
    /// not remove the successor.
    force: bool,
    /// The call that fails, and since when.
    failing: Option<(&'static str, Instant)>,
    /// The learner whose variables were printed.
    announced: Option<u64>,
}

impl ReplaceSession {
    pub(super) fn new(cluster: ClusterEndpoints) -> ReplaceSession {
        ReplaceSession {
            cluster,
            screen: ProgressLine::new(),
            again: String::new(),
            force: false,
            failing: None,
            announced: None,
        }
    }

    /// Sets the command line for messages about a step that did not succeed, and whether the member
    /// is removed though it may run.
    pub(super) fn again_with(&mut self, again: String, force: bool) {
        self.again = again;
        self.force = force;
    }

    fn again(&self) -> String {
        let force = if self.force { " --force" } else { "" };
        match &*self.again {
            "" => String::new(),
            again => format!(": {again}{force}"),
        }
    }

    /// Takes one step after the other, until the successor votes.
    pub(super) async fn replace(
        &mut self,
        of: &mut Replacement,
        wait: Duration,
    ) -> Result<(), ReplaceError> {
        let began = Instant::now();
        let mut is_first = true;
        loop {
            let members = self.members().await?;
            let step = of.next(&members);
            let waits = matches!(step, ReplaceStep::Start(_) | ReplaceStep::Promote(_));
            match step {
                ReplaceStep::Remove(old) => {
                    if is_first && self.runs(old, wait).await? {
                        self.print_that_it_answers(old);
                        return Ok(());
                    }
                    self.remove(old, &members).await?;
                }
                ReplaceStep::Add => self.add(of, &members).await?,
                ReplaceStep::Start(new) => self.announce(of, new, &members),
                ReplaceStep::Promote(new) => self.promote(new, &members).await?,
                ReplaceStep::Done(new) => {
                    let text = format!("{} ({:x}) is a voter.", new.name, new.id);
                    self.screen.print(&text);
                    return Ok(());
                }
                ReplaceStep::Taken(voter) => {
                    let is_done = of.old.is_none() && voter.name == of.name;
                    if is_done && self.cluster.status_of(voter).await.is_some() {
                        self.print_that_it_answers(voter);
                        return Ok(());
                    }
                    return Err(ReplaceError::Taken {
                        name: voter.name.clone(),
                        id: voter.id,
                        urls: voter.peer_ur_ls.join(","),
                    });
                }
            }
            is_first = false;
            if waits && wait < began.elapsed() {
                return Err(ReplaceError::NotInTime {
                    name: of.name.clone(),
                    waited: wait,
                    again: self.again(),
                });
            }
            sleep(POLL).await;
        }
    }

    /// The members. Repeated at the next endpoint while one fails.
    pub(super) async fn members(&mut self) -> Result<Vec<Member>, ReplaceError> {
        loop {
            match self.cluster.members().await {
                Ok(members) => {
                    self.failing.take_if(|(what, _)| *what == LIST);
                    return Ok(members);
                }
                Err(status) => self.pause(LIST, status, &[]).await?,
            }
        }
    }

    /// Whether the member to be removed answers. One that may run all the same is an error, unless
    /// the removal is forced.
    async fn runs(&mut self, old: &Member, wait: Duration) -> Result<bool, ReplaceError> {
        self.screen
            .show(format!("checking that {} is down", names([old])));
        if old.is_learner {
            return Ok(false);
        }
        let answer = self.cluster.answer_of(old).await;
        if matches!(answer, MemberAnswer::Own(_)) || self.force {
            return Ok(matches!(answer, MemberAnswer::Own(_)));
        }
        if let MemberAnswer::Other { url, id } = answer {
            return Err(LivenessDoubt::OtherMember { url, id }.about(old));
        }
        let urls = old.client_ur_ls.join(",");
        if let MemberAnswer::Refused(url) = answer {
            return Err(LivenessDoubt::Refused(url).about(old));
        }
        if loopback::hides(old) {
            return Err(LivenessDoubt::Loopback(urls).about(old));
        }
        // The leader counts a member as active for a while after its last message.
        let began = Instant::now();
        loop {
            match self.cluster.all_voters_active(old).await {
                Ok(true) if PASSING.min(wait) <= began.elapsed() => {
                    return Err(LivenessDoubt::Active(urls).about(old));
                }
                Ok(true) => sleep(POLL).await,
                Ok(false) => return Ok(false),
                Err(status) => self.pause(CHECK, status, &[]).await?,
            }
        }
    }

    fn print_that_it_answers(&self, member: &Member) {
        self.screen.print(&format!(
            "{} is a member and answers: there is nothing to replace. To replace it all the same, \
             stop it first.",
            names([member])
        ));
    }

    async fn remove(&mut self, old: &Member, members: &[Member]) -> Result<(), ReplaceError> {
        self.screen.show(format!("removing {}", names([old])));
        let request = MemberRemoveRequest { id: old.id };
        let removed = match self.cluster.client().await {
            Ok(mut client) => client.member_remove(request).await.map(drop),
            Err(status) => Err(status),
        };
        match removed {
            Ok(()) => {
                self.failing = None;
                self.force = false;
                let urls = old.peer_ur_ls.join(",");
                let text = format!("Removed {} ({:x}, {urls}).", names([old]), old.id);
                self.screen.print(&text);
                Ok(())
            }
            Err(status) => self.pause("remove the member", status, members).await,
        }
    }

    async fn add(&mut self, of: &mut Replacement, members: &[Member]) -> Result<(), ReplaceError> {
        self.screen.show(format!("adding {} as a learner", of.name));
        let request = MemberAddRequest {
            peer_ur_ls: of.peer_urls.clone(),
            is_learner: true,
        };
        let added = match self.cluster.client().await {
            Ok(mut client) => client.member_add(request).await,
            Err(status) => Err(status),
        };
        match added {
            Ok(added) => {
                self.failing = None;
                of.successor = added.into_inner().member.map(|member| member.id);
                Ok(())
            }
            Err(status) if text_is(&status, &Error::MemberBadUrls) => {
                Err(ReplaceError::BadUrls(of.peer_urls.join(",")))
            }
            Err(status) => self.pause("add a learner", status, members).await,
        }
    }

    /// Prints, once, what the successor is to be started with.
    fn announce(&mut self, of: &Replacement, new: &Member, members: &[Member]) {
        let is_new = self.announced.replace(new.id) != Some(new.id);
        if is_new {
            let kind = if new.is_learner { "learner" } else { "voter" };
            self.screen.print(&format!(
                "{:x} is added as a {kind}. Start its host with an empty data directory, without \
                 --discovery and --proxy, and with these variables:\n{}",
                new.id,
                joining::variables(new.id, &of.name, members).trim_end()
            ));
        }
        self.screen
            .show(format!("waiting for {} to be started", of.name));
    }

    async fn promote(&mut self, new: &Member, members: &[Member]) -> Result<(), ReplaceError> {
        let request = MemberPromoteRequest { id: new.id };
        let promoted = match self.cluster.client().await {
            Ok(mut client) => client.member_promote(request).await.map(drop),
            Err(status) => Err(status),
        };
        match promoted {
            Ok(()) => {
                self.failing = None;
                Ok(())
            }
            Err(status) if text_is(&status, &Error::LearnerNotReady) => {
                self.failing = None;
                let applied = self.cluster.status_of(new).await;
                let at = applied.map_or(0, |status| status.raft_applied_index);
                let text = format!("waiting for {} to be in sync: at entry {at}", new.name);
                self.screen.show(text);
                Ok(())
            }
            Err(status) => self.pause("promote the learner", status, members).await,
        }
    }

    /// Waits after a failure that may pass.
    async fn pause(
        &mut self,
        what: &'static str,
        status: Status,
        members: &[Member],
    ) -> Result<(), ReplaceError> {
        let (_, since) = match self.failing.filter(|(failing, _)| *failing == what) {
            Some(failing) => failing,
            None => *self.failing.insert((what, Instant::now())),
        };
        let passes = passes(&status) || self.cluster.may_log_in_again(&status);
        if passes && since.elapsed() < PASSING {
            self.screen
                .show(format!("trying to {what}: {}", status.message()));
            self.cluster.rotate();
            sleep(POLL).await;
            return Ok(());
        }
        Err(self.explain(what, &status, members).await)
    }

    async fn explain(
        &self,
        what: &'static str,
        status: &Status,
        members: &[Member],
    ) -> ReplaceError {
        if text_is(status, &Error::Unhealthy) {
            let mut silent = Vec::new();
            for member in members.iter().filter(|member| !member.is_learner) {
                if self.cluster.status_of(member).await.is_none() {
                    silent.push(member);
                }
            }
            return ReplaceError::Unhealthy {
                what,
                silent: match silent.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", names(silent)),
                },
                again: self.again(),
            };
        }
        if let Some(remedy) = remedy(status) {
            let again = self.again();
            return ReplaceError::User {
                what,
                text: status.message().to_owned(),
                remedy,
                again,
            };
        }
        if text_is(status, &Error::NotEnoughStartedMembers) {
            return ReplaceError::NotEnoughStarted { what };
        }
        if text_is(status, &Error::State(StateError::TooManyLearners)) {
            let learners: Vec<_> = members.iter().filter(|one| one.is_learner).collect();
            return ReplaceError::TooManyLearners {
                named: match learners.is_empty() {
                    true => String::new(),
                    false => format!(": {}", names(learners)),
                },
            };
        }
        let text = status.message().to_owned();
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                ReplaceError::NoAnswer(text)
            }
            _ => ReplaceError::Refused { what, text },
        }
    }
}
