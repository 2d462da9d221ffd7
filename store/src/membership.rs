//! Carrying out a membership change, with etcd's checks.
//!
//! The leader checks that enough members respond when it proposes the change
//! (`keelson_core::node`, `health.rs`). This module checks that enough members were ever started,
//! which only the state machine records. Both checks are repeated for each attempt.

use std::time::{Duration, Instant};

use keelson_core::MemberId;
use keelson_core::node::{Input, Refusal};
use keelson_core::state::Response;
use keelson_core::state::auth::Access;
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{MemberChange, member_change::Op};
use prost::Message;
use tokio::time::timeout_at;

use crate::member::waiters::Outcome;
use crate::{Error, Store};

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(20);

/// The command version of the first release whose members apply the addition of a second learner.
const SEVERAL_LEARNERS: u32 = 2;

const TOO_MANY_LEARNERS: Error = Error::State(keelson_core::state::Error::TooManyLearners);

impl Store {
    /// Carries a change out, or returns etcd's error.
    pub(crate) async fn change(&self, op: Op) -> Result<Vec<Member>, Error> {
        let began = Instant::now();
        let deadline = tokio::time::Instant::now() + self.request_timeout();
        self.authorize_now(Access::Root).await?;
        self.require_little_lag()?;
        self.require_connections(&op)?;
        let change = MemberChange { op: Some(op) };
        if self.config().max_request_bytes < change.encoded_len() {
            return Err(Error::RequestTooLarge);
        }
        let _reserved = self.reserve(change.encoded_len())?;
        let mut soft_state = self.inner.shared.watch_soft_state();
        loop {
            soft_state.borrow_and_update();
            self.read_index().await?;
            self.authorize(Access::Root)?;
            self.require_started(&change)?;
            self.require_one_learner(&change)?;
            let encoded = change.encode_to_vec().into();
            let input = |id| Input::ProposeMembership {
                id,
                change: encoded,
            };
            match self.attempt(input, began, deadline).await? {
                Outcome::Applied(Ok(Response::Members(members))) => return Ok(members),
                Outcome::Applied(result) => {
                    result?;
                    return Ok(self.view().members());
                }
                Outcome::Refused(refusal) => self.explain(refusal, &change)?,
            }
            let pause = tokio::time::timeout(RETRY, soft_state.changed());
            if timeout_at(deadline, pause).await.is_err() {
                return Err(self.timeout_error(began));
            }
        }
    }

    /// The error for a refusal; `Ok` if another attempt may succeed.
    fn explain(&self, refusal: Refusal, change: &MemberChange) -> Result<(), Error> {
        match refusal {
            Refusal::TooManyRequests => Err(Error::TooManyRequests),
            Refusal::LastVoter => Err(Error::NotEnoughStartedMembers),
            Refusal::TooManyLearners => Err(TOO_MANY_LEARNERS),
            Refusal::UnhealthyCluster if !self.leads_since_just_now() => Err(Error::Unhealthy),
            Refusal::LearnerNotReady if !self.leads_since_just_now() => Err(Error::LearnerNotReady),
            // The next attempt first applies the latest members.
            Refusal::MembershipConflict => {
                let valid = self.view().roster().validate(change);
                Ok(valid.map_err(keelson_core::state::Error::from)?)
            }
            _ => Ok(()),
        }
    }

    /// Whether this member became leader so recently that it lacks responses from some members.
    fn leads_since_just_now(&self) -> bool {
        let election = Duration::from_millis(self.config().election_ms);
        let elected = self.inner.shared.leader_elected();
        elected.is_none_or(|elected| elected.elapsed() < election)
    }

    /// Without a quorum there is no leader to decide. As in etcd, a change that is unsafe by this
    /// member's connections is then refused at once.
    fn require_connections(&self, op: &Op) -> Result<(), Error> {
        let counts = match op {
            Op::Add(_) => true,
            Op::Remove(id) => {
                let voter = self
                    .view()
                    .member(*id)
                    .is_some_and(|member| !member.is_learner);
                voter && self.inner.links.is_up(MemberId(*id))
            }
            _ => false,
        };
        match counts && self.config().strict_reconfig_check && !self.reaches_quorum() {
            true => Err(Error::Unhealthy),
            false => Ok(()),
        }
    }

    fn require_started(&self, change: &MemberChange) -> Result<(), Error> {
        let Some(op) = change
            .op
            .as_ref()
            .filter(|_| self.config().strict_reconfig_check)
        else {
            return Ok(());
        };
        match enough_started(&self.view().members(), op) {
            true => Ok(()),
            false => Err(Error::NotEnoughStartedMembers),
        }
    }

    /// Earlier releases do not apply the addition of a second learner, so that their members would
    /// differ from then on.
    fn require_one_learner(&self, change: &MemberChange) -> Result<(), Error> {
        let is_learner = matches!(&change.op, Some(Op::Add(new)) if new.is_learner);
        let view = self.view();
        let refused =
            is_learner && view.command_version() < SEVERAL_LEARNERS && 0 < view.roster().learners();
        match refused {
            true => Err(TOO_MANY_LEARNERS),
            false => Ok(()),
        }
    }
}

/// Whether the voters that were ever started are a majority after the change; etcd v3.4.23,
/// `membership/cluster.go` (`IsReadyTo...`). A member counts as started once it has published its
/// name.
fn enough_started(members: &[Member], op: &Op) -> bool {
    let voters = members.iter().filter(|member| !member.is_learner);
    let stays = |member: &&Member| !matches!(op, Op::Remove(id) if *id == member.id);
    let (mut count, mut started) = (0, 0);
    for voter in voters.filter(stays) {
        count += 1;
        started += usize::from(!voter.name.is_empty());
    }
    match op {
        Op::Add(new) if !new.is_learner => {
            count += 1;
            // A cluster of one may always grow.
            if started == 1 && count == 2 {
                return true;
            }
        }
        Op::Remove(id) if members.iter().any(|it| it.id == *id && it.is_learner) => return true,
        Op::Remove(_) => {}
        Op::Promote(id) if members.iter().any(|it| it.id == *id && it.is_learner) => {
            count += 1;
            started += 1;
        }
        _ => return true,
    }
    count / 2 < started
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, started: bool, is_learner: bool) -> Member {
        Member {
            id,
            is_learner,
            name: if started {
                format!("m{id}")
            } else {
                String::new()
            },
            ..Member::default()
        }
    }

    /// Voters from id 1 on, `started` of which have published a name, and learner 9.
    #[track_caller]
    fn check(voters: u64, started: u64, op: Op, expected: bool) {
        let voters = (1..=voters).map(|id| member(id, id <= started, false));
        let members: Vec<_> = voters.chain([member(9, false, true)]).collect();
        assert_eq!(enough_started(&members, &op), expected);
    }

    #[test]
    fn those_that_were_started_must_be_a_majority_afterwards() {
        let add = |is_learner| Op::Add(member(8, false, is_learner));
        check(1, 1, add(false), true);
        check(2, 1, add(false), false);
        check(2, 1, add(true), true);
        check(3, 2, add(false), false);
        check(3, 3, add(false), true);
        check(1, 1, Op::Remove(1), false);
        check(2, 1, Op::Remove(1), false);
        check(2, 1, Op::Remove(2), true);
        check(2, 1, Op::Remove(9), true);
        check(2, 1, Op::Promote(9), true);
        check(3, 1, Op::Promote(9), false);
        check(2, 1, Op::Update(member(1, true, false)), true);
    }
}
