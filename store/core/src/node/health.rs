//! The health of members as the leader sees it, and which membership changes it permits.
//!
//! An added voter may never start, and a removed one may be needed for the quorum. etcd refuses
//! such changes unless it runs with `--strict-reconfig-check=false`. The rules are those of etcd
//! v3.4.23, `server.go` (`AddMember`, `mayRemoveMember`, `isLearnerReady`). In etcd each member
//! decides by its own connections; here the leader decides, by the messages that it has received.

use std::collections::BTreeMap;

use keelson_proto::internal::{MemberChange, member_change::Op};

use super::{Node, Refusal};
use crate::{MemberId, Millis};

/// A member is unhealthy after this many election timeouts without a message. Followers answer
/// every heartbeat, so this is far longer than the delay of an answer on a loaded machine.
const SILENCE_ELECTIONS: u64 = 3;

/// A learner may vote once it has nine tenths of the leader's log; etcd's `readyPercent`.
const READY_TENTHS: u64 = 9;

/// The time of each member's last message; on a leader, since its election.
#[derive(Default)]
pub(super) struct Health {
    last_message: BTreeMap<MemberId, Millis>,
}

impl Health {
    pub(super) fn note_message(&mut self, member: MemberId, now: Millis) {
        self.last_message.insert(member, now);
    }

    pub(super) fn remove(&mut self, member: MemberId) {
        self.last_message.remove(&member);
    }
}

impl Node {
    /// Whether the leader may propose this change now.
    pub(super) fn check_change(&self, change: &MemberChange) -> Result<(), Refusal> {
        let voters = self.voters();
        match &change.op {
            Some(Op::Add(_)) if !self.all_healthy(&voters) => {
                return Err(Refusal::UnhealthyCluster);
            }
            Some(Op::Remove(id)) => self.check_removal(MemberId(*id), &voters)?,
            Some(Op::Promote(id)) => self.check_promotion(*id)?,
            _ => {}
        }
        let fits = self.roster.validate(change);
        fits.map_err(|_| Refusal::MembershipConflict)?;
        match &change.op {
            Some(Op::Add(new))
                if new.is_learner && self.config.learners_max <= self.roster.learners() =>
            {
                Err(Refusal::TooManyLearners)
            }
            _ => Ok(()),
        }
    }

    fn all_healthy(&self, voters: &[MemberId]) -> bool {
        !self.config.strict_reconfig_check || voters.iter().all(|voter| self.is_healthy(*voter))
    }

    /// A healthy voter may be removed if the other healthy ones still are a majority of the
    /// remaining voters. An unhealthy voter may always be removed: that makes the majority smaller.
    fn check_removal(&self, id: MemberId, voters: &[MemberId]) -> Result<(), Refusal> {
        if voters == [id] {
            return Err(Refusal::LastVoter);
        }
        let needed = voters.contains(&id) && self.is_healthy(id);
        if !self.config.strict_reconfig_check || !needed {
            return Ok(());
        }
        let healthy = voters.iter().filter(|voter| self.is_healthy(**voter));
        let left = healthy.count() - 1;
        match left < 1 + (voters.len() - 1) / 2 {
            true => Err(Refusal::UnhealthyCluster),
            false => Ok(()),
        }
    }

    /// Whether a learner may be promoted; checked also without the strict check, as in etcd.
    fn check_promotion(&self, id: u64) -> Result<(), Refusal> {
        let progress = self.raw.raft.prs();
        let (Some(learner), Some(leader)) = (progress.get(id), progress.get(self.config.member.0))
        else {
            return Ok(());
        };
        let in_sync =
            leader.matched.saturating_mul(READY_TENTHS) <= learner.matched.saturating_mul(10);
        match in_sync && self.is_healthy(MemberId(id)) {
            true => Ok(()),
            false => Err(Refusal::LearnerNotReady),
        }
    }

    pub(super) fn is_healthy(&self, member: MemberId) -> bool {
        let silence_ms = self.config.election_ms.saturating_mul(SILENCE_ELECTIONS);
        member == self.config.member || self.answered_within(member, silence_ms)
    }

    /// Whether a message of this peer arrived within the last `silence_ms` milliseconds and its
    /// process has not ended since.
    pub(super) fn answered_within(&self, peer: MemberId, silence_ms: u64) -> bool {
        let last = self.health.last_message.get(&peer);
        last.is_some_and(|last| self.now.0 <= last.0.saturating_add(silence_ms))
            && !self.failover.is_down(peer)
    }
}
