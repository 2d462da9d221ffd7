//! From a request to its outcome: proposals until their fate is known or time is up.

use std::time::{Duration, Instant};

use keelson_core::node::{Input, Refusal};
use keelson_core::state::{Error as StateError, Response};
use keelson_core::{MemberId, ProposalId};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{Command, command::Op};
use prost::Message;
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::member::waiters::{Outcome, Reserved};
use crate::member::worker::Event;
use crate::{Error, Store};

/// Committed entries that may wait to be applied; etcd's `maxGapBetweenApplyAndCommitIndex`.
const APPLY_LAG_MAX: u64 = 5000;

/// A change of the v2 tree: the largest form that Go's `ParseForm` reads, 10 MB, and a key.
/// `--max-request-bytes` is of the v3 API alone, as in etcd.
const TREE_BYTES_MAX: usize = (10 << 20) + (64 << 10);

/// Between the first two attempts at a request that is surely not in the log; later ones are further
/// apart, up to...
const RETRY: Duration = Duration::from_millis(5);
/// ...this.
const RETRY_MAX: Duration = Duration::from_millis(100);

/// How long a request waits for a member that has too much to do, before it is refused.
const CROWDED: Duration = Duration::from_secs(2);

impl Store {
    /// Puts a command into the log and returns what came of it. A command that is surely not in the
    /// log is tried again, until time is up; one whose fate is unknown never is.
    pub(crate) async fn propose(&self, op: Op) -> Result<Response, Error> {
        Ok(self.submit_command(&Command { op: Some(op) }).await??)
    }

    /// The same, with the state machine's own refusal.
    pub(crate) async fn submit_command(
        &self,
        command: &Command,
    ) -> Result<Result<Response, StateError>, Error> {
        if let Some(op) = &command.op {
            self.view().admits(op)?;
        }
        let bytes_max = match command.op {
            Some(Op::Tree(_)) => self.config().max_request_bytes.max(TREE_BYTES_MAX),
            _ => self.config().max_request_bytes,
        };
        let command = command.encode_to_vec();
        if bytes_max < command.len() {
            return Err(Error::RequestTooLarge);
        }
        self.submit(command.into()).await
    }

    /// The same for an encoded command.
    async fn submit(&self, command: bytes::Bytes) -> Result<Result<Response, StateError>, Error> {
        let began = Instant::now();
        let deadline = tokio::time::Instant::now() + self.request_timeout();
        self.require_little_lag()?;
        let _reserved = self.reserve(command.len())?;
        let mut leader = self.inner.shared.watch_leader();
        let mut pause = RETRY;
        loop {
            leader.borrow_and_update();
            let command = command.clone();
            let input = |id| Input::Propose { id, command };
            let refusal = match self.attempt(input, began, deadline).await? {
                Outcome::Applied(result) => return Ok(result),
                Outcome::Refused(refusal) => refusal,
            };
            if refusal == Refusal::TooManyRequests && CROWDED < began.elapsed() {
                return Err(Error::TooManyRequests);
            }
            let again = before_another_attempt(refusal, &mut leader, pause);
            if timeout_at(deadline, again).await.is_err() {
                return Err(self.timeout_error(began));
            }
            pause = (2 * pause).min(RETRY_MAX);
        }
    }

    /// Refuses more work while much of what is committed waits to be applied.
    pub(crate) fn require_little_lag(&self) -> Result<(), Error> {
        let committed = self.inner.shared.node().committed.0;
        let lag = committed.saturating_sub(self.view().applied_index().0);
        match APPLY_LAG_MAX < lag {
            true => Err(Error::TooManyRequests),
            false => Ok(()),
        }
    }

    /// Room for a request whose command weighs that much, for as long as it is under way.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reserved<'_>, Error> {
        let reserved = self.inner.waiters.reserve(bytes);
        reserved.ok_or(Error::TooManyRequests)
    }

    /// Proposes once, and waits for what comes of it.
    pub(crate) async fn attempt(
        &self,
        input: impl FnOnce(ProposalId) -> Input,
        began: Instant,
        deadline: tokio::time::Instant,
    ) -> Result<Outcome, Error> {
        let (id, outcome) = self.inner.waiters.add();
        let _forget = Forget { store: self, id };
        if self.inner.turns.send(Event::from(input(id))).is_err() {
            return Err(Error::Stopped);
        }
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(self.timeout_error(began)),
        }
    }

    /// etcd's three kinds of timeout: they tell an operator where to look.
    pub(crate) fn timeout_error(&self, began: Instant) -> Error {
        let election = Duration::from_millis(self.config().election_ms);
        let elected = self.inner.shared.leader_elected();
        let during_election = |at: Instant| began < at && at < began + 2 * election;
        if elected.is_some_and(during_election) {
            return Error::TimeoutDueToLeaderFail;
        }
        let leader = self.inner.shared.standing().leader;
        let lost = match leader {
            MemberId::NONE => false,
            leader if leader == self.member_id() => !self.reaches_quorum(),
            leader => !self.inner.links.is_up(leader),
        };
        match lost {
            true => Error::TimeoutDueToConnectionLost,
            false => Error::Timeout,
        }
    }

    /// Whether connections to a majority of the voters stand, this member included.
    pub(crate) fn reaches_quorum(&self) -> bool {
        let voters = self.view().members();
        let voters: Vec<_> = voters.iter().filter(|member| !member.is_learner).collect();
        let me = self.member_id().0;
        let up = |member: &&&Member| member.id == me || self.inner.links.is_up(MemberId(member.id));
        voters.len() / 2 < voters.iter().filter(up).count()
    }

    /// Whether the connection to any other voter stands.
    pub(crate) fn reaches_another_voter(&self) -> bool {
        let members = self.view().members();
        let mut voters = members.iter().filter(|member| !member.is_learner);
        // There is no link to this member itself.
        voters.any(|member| self.inner.links.is_up(MemberId(member.id)))
    }

    /// etcd's `ReqTimeout`: five seconds and two election timeouts.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * Duration::from_millis(self.config().election_ms)
    }
}

/// Takes the request off the list when its client goes away.
struct Forget<'a> {
    store: &'a Store,
    id: ProposalId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let (inner, id) = (&self.store.inner, self.id);
        if inner.waiters.forget(id) {
            let _ = inner.turns.leave(Event::from(Input::GivenUp { id }));
        }
    }
}

/// Without a leader, until there is one: thousands of requests may wait for it, and none may cost
/// anything meanwhile. Otherwise for a moment, or until the leader changes.
async fn before_another_attempt(
    refusal: Refusal,
    leader: &mut watch::Receiver<MemberId>,
    pause: Duration,
) {
    let no_leader = refusal == Refusal::NoLeader && *leader.borrow() == MemberId::NONE;
    if no_leader {
        let _ = leader.wait_for(|leader| *leader != MemberId::NONE).await;
    } else {
        let _ = tokio::time::timeout(pause, leader.changed()).await;
    }
}

#[cfg(test)]
mod tests;
