//! Proposals: attempts, retries, and the wait for the outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_core::node::{Input, Refusal};
use keelson_core::state::auth::{AUTH_COMMANDS, Access, Caller};
use keelson_core::state::{Error as StateError, Response};
use keelson_core::{MemberId, ProposalId};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{Command, command::Op};
use prost::Message;
use tokio::sync::{oneshot, watch};
use tokio::time::{timeout, timeout_at};

use crate::member::waiters::{Outcome, Reserved, Waiters};
use crate::member::worker::WorkerEvent;
use crate::{Error, Store};

/// The most committed entries that may wait to be applied; etcd's
/// `maxGapBetweenApplyAndCommitIndex`.
const APPLY_LAG_MAX: u64 = 5000;

/// The largest change of the v2 tree, in bytes: the largest form that Go's `ParseForm` reads, 10
/// MB, and a key. `--max-request-bytes` applies to the v3 API only, as in etcd.
const TREE_BYTES_MAX: usize = (10 << 20) + (64 << 10);

/// The pause between the first two attempts at a request that is certainly not in the log. It
/// doubles after each attempt, up to `RETRY_MAX`.
const RETRY: Duration = Duration::from_millis(5);
/// The longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_millis(100);

/// How long an outcome is waited for after the timeout, if it matters then.
const LATE_MAX: Duration = Duration::from_secs(60);

/// How long a request waits for an overloaded member before it is refused.
const CROWDED: Duration = Duration::from_secs(2);

impl Store {
    /// Proposes a command and returns its response. A command that is certainly not in the log is
    /// proposed again until the timeout; a command whose outcome is unknown is not.
    pub(crate) async fn propose(&self, op: Op) -> Result<Response, Error> {
        self.propose_if_room(op, 0).await
    }

    /// [`Store::propose`] for a command of that cost, in bytes of the quota.
    pub(crate) async fn propose_if_room(&self, op: Op, cost: u64) -> Result<Response, Error> {
        let proposed = self.propose_or_wait(op, cost, AtTimeout::Forget).await;
        proposed.map_err(|failed| failed.error)
    }

    /// [`Store::propose_if_room`]; after the timeout the outcome may still be waited for.
    pub(crate) async fn propose_or_wait(
        &self,
        op: Op,
        cost: u64,
        at_timeout: AtTimeout,
    ) -> Result<Response, NoOutcome> {
        self.view().require_unfenced()?;
        // Before the state of the store is looked at: a caller without rights learns nothing of it.
        self.authorize_now(Access::Command(&op)).await?;
        self.require_room(cost).await?;
        self.submit_signed(op, at_timeout).await
    }

    /// Submits a command that was checked, with this handle's caller.
    pub(crate) async fn submit_signed(
        &self,
        op: Op,
        at_timeout: AtTimeout,
    ) -> Result<Response, NoOutcome> {
        let signs = self.signs();
        // A user of a certificate may come before this member has applied that auth is enabled.
        let again = match &*self.caller {
            Caller::User { .. } if !signs => Some(self.caller.signed(op.clone())),
            _ => None,
        };
        let op = match signs {
            true => self.caller.signed(op),
            false => op,
        };
        let command = Command { op: Some(op) };
        match (self.submit_or_wait(command, at_timeout).await?, again) {
            // Refused at its entry, without effect: auth is enabled here now.
            (Err(StateError::UserEmpty), Some(op)) if self.signs() => {
                let command = Command { op: Some(op) };
                Ok(self.submit_or_wait(command, at_timeout).await??)
            }
            (outcome, _) => Ok(outcome?),
        }
    }

    /// Whether the log names this handle's caller. A client's only while auth is enabled. The
    /// member's own requests, and those of its program, wherever all members understand it: auth
    /// may be enabled before they are applied.
    fn signs(&self) -> bool {
        match &*self.caller {
            Caller::Member => AUTH_COMMANDS <= self.view().command_version(),
            Caller::Anonymous | Caller::User { .. } => self.view().auth_enabled(),
        }
    }

    /// [`Store::propose`] with the state machine's own error.
    pub(crate) async fn submit_command(
        &self,
        command: Command,
    ) -> Result<Result<Response, StateError>, Error> {
        let submitted = self.submit_or_wait(command, AtTimeout::Forget).await;
        submitted.map_err(|failed| failed.error)
    }

    /// [`Store::submit_command`]; after the timeout the outcome may still be waited for.
    pub(crate) async fn submit_or_wait(
        &self,
        command: Command,
        at_timeout: AtTimeout,
    ) -> Result<Result<Response, StateError>, NoOutcome> {
        if let Some(op) = &command.op {
            self.require_understood(op).await?;
        }
        let bytes_max = match command.op {
            Some(Op::Tree(_)) => self.config().max_request_bytes.max(TREE_BYTES_MAX),
            // Not a client's: the lessor bounds them.
            Some(Op::LeaseExpire(_) | Op::LeaseCheckpoint(_)) => usize::MAX,
            // Nor are the changes of a standby, which its follower bounds.
            Some(Op::Replicate(_)) => usize::MAX,
            _ => self.config().max_request_bytes,
        };
        let encoded = command.encode_to_vec();
        if bytes_max < encoded.len() {
            return Err(Error::RequestTooLarge.into());
        }
        // Its bytes may be parts of a far larger buffer, which does not wait as well.
        drop(command);
        let submitted = self.submit(encoded.into(), at_timeout).await;
        submitted.inspect_err(|_| self.inner.metrics.proposals_failed.add(1))
    }

    /// Refuses a command that a member cannot apply yet. Here the members may be those of a moment
    /// ago: another one may just have published what it can apply.
    async fn require_understood(&self, op: &Op) -> Result<(), Error> {
        if self.view().admits(op).is_err() {
            self.read_index().await?;
            self.view().admits(op)?;
        }
        Ok(())
    }

    /// [`Store::submit_or_wait`] for an encoded command.
    async fn submit(
        &self,
        command: bytes::Bytes,
        at_timeout: AtTimeout,
    ) -> Result<Result<Response, StateError>, NoOutcome> {
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
            let attempt = self.attempt_or_wait(input, began, deadline, at_timeout);
            let refusal = match attempt.await? {
                Outcome::Applied(result) => return Ok(result),
                Outcome::Refused(refusal) => refusal,
            };
            if refusal == Refusal::TooManyRequests && CROWDED < began.elapsed() {
                return Err(Error::TooManyRequests.into());
            }
            let again = before_another_attempt(refusal, &mut leader, pause);
            if timeout_at(deadline, again).await.is_err() {
                return Err(self.timeout_error(began).into());
            }
            pause = (2 * pause).min(RETRY_MAX);
        }
    }

    /// Refuses the request while too many committed entries wait to be applied.
    pub(crate) fn require_little_lag(&self) -> Result<(), Error> {
        let committed = self.inner.shared.node().committed.0;
        let lag = committed.saturating_sub(self.view().applied_index().0);
        match APPLY_LAG_MAX < lag {
            true => Err(Error::TooManyRequests),
            false => Ok(()),
        }
    }

    /// Reserves memory for a command of that size, in bytes, until the guard is dropped.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reserved<'_>, Error> {
        let reserved = self.inner.waiters.reserve(bytes);
        reserved.ok_or(Error::TooManyRequests)
    }

    /// Proposes once, and waits for the outcome.
    pub(crate) async fn attempt(
        &self,
        input: impl FnOnce(ProposalId) -> Input,
        began: Instant,
        deadline: tokio::time::Instant,
    ) -> Result<Outcome, Error> {
        let attempt = self.attempt_or_wait(input, began, deadline, AtTimeout::Forget);
        attempt.await.map_err(|failed| failed.error)
    }

    /// [`Store::attempt`]; after the deadline the outcome may still be waited for.
    async fn attempt_or_wait(
        &self,
        input: impl FnOnce(ProposalId) -> Input,
        began: Instant,
        deadline: tokio::time::Instant,
        at_timeout: AtTimeout,
    ) -> Result<Outcome, NoOutcome> {
        let (id, mut outcome) = self.inner.waiters.add();
        let forget = Forget { store: self, id };
        if self
            .inner
            .executor
            .send(WorkerEvent::from(input(id)))
            .is_err()
        {
            return Err(Error::Stopped.into());
        }
        match timeout_at(deadline, &mut outcome).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(Error::Stopped.into()),
            Err(_) => Err(NoOutcome {
                error: self.timeout_error(began),
                late: (at_timeout == AtTimeout::Wait).then(|| forget.wait(outcome)),
            }),
        }
    }

    /// One of etcd's three timeout errors. The difference shows an operator the likely cause.
    pub(crate) fn timeout_error(&self, began: Instant) -> Error {
        let election = Duration::from_millis(self.config().election_ms);
        let elected = self.inner.shared.leader_elected();
        let during_election = |at: Instant| began < at && at < began + 2 * election;
        if elected.is_some_and(during_election) {
            return Error::TimeoutDueToLeaderFail;
        }
        let leader = self.inner.shared.soft_state().leader;
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

    /// Whether this member is connected to a majority of the voters, itself included.
    pub(crate) fn reaches_quorum(&self) -> bool {
        let voters = self.view().members();
        let voters: Vec<_> = voters.iter().filter(|member| !member.is_learner).collect();
        let me = self.member_id().0;
        let up = |member: &&&Member| member.id == me || self.inner.links.is_up(MemberId(member.id));
        voters.len() / 2 < voters.iter().filter(up).count()
    }

    /// Whether this member is connected to any other voter.
    pub(crate) fn reaches_another_voter(&self) -> bool {
        let members = self.view().members();
        let mut voters = members.iter().filter(|member| !member.is_learner);
        // There is no link to this member itself.
        voters.any(|member| self.inner.links.is_up(MemberId(member.id)))
    }

    /// etcd's `ReqTimeout`: five seconds and two election timeouts, as a duration.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * Duration::from_millis(self.config().election_ms)
    }
}

/// What happens to a request at its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtTimeout {
    /// Its outcome matters no longer.
    Forget,
    /// Its outcome may still be waited for.
    Wait,
}

/// Why a request has no outcome.
pub(crate) struct NoOutcome {
    pub(crate) error: Error,
    /// The outcome after the timeout, if the request may still be applied.
    pub(crate) late: Option<LateOutcome>,
}

impl<E: Into<Error>> From<E> for NoOutcome {
    fn from(error: E) -> NoOutcome {
        NoOutcome {
            error: error.into(),
            late: None,
        }
    }
}

/// A request that has had no outcome in time.
pub(crate) struct LateOutcome {
    waiters: Arc<Waiters>,
    id: ProposalId,
    outcome: oneshot::Receiver<Outcome>,
}

impl LateOutcome {
    /// The response. `None` if the request was refused, or has no outcome within a minute.
    pub(crate) async fn response(mut self) -> Option<Response> {
        match timeout(LATE_MAX, &mut self.outcome).await {
            Ok(Ok(Outcome::Applied(result))) => result.ok(),
            _ => None,
        }
    }
}

impl Drop for LateOutcome {
    fn drop(&mut self) {
        self.waiters.forget(self.id);
    }
}

/// Removes the request from the waiters when its client disconnects.
struct Forget<'a> {
    store: &'a Store,
    id: ProposalId,
}

impl Forget<'_> {
    /// Lets the request wait on.
    fn wait(self, outcome: oneshot::Receiver<Outcome>) -> LateOutcome {
        let late = LateOutcome {
            waiters: Arc::clone(&self.store.inner.waiters),
            id: self.id,
            outcome,
        };
        // It has nothing to release but the request.
        std::mem::forget(self);
        late
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let (inner, id) = (&self.store.inner, self.id);
        if inner.waiters.forget(id) {
            let _ = inner
                .executor
                .enqueue(WorkerEvent::from(Input::ProposalCancelled { id }));
        }
    }
}

/// Waits before the next attempt. Without a leader it waits until there is one, so that thousands
/// of waiting requests use no CPU. Otherwise it waits for a short pause or a change of the
/// leader.
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
