//! Which members answer the leader, and what membership changes that allows.
//!
//! A change counts on what is there now: a voter that is added may never start, one that is removed may
//! be needed. etcd refuses such changes unless it runs with `--strict-reconfig-check=false`; the rules
//! are those of etcd v3.4.23, `server.go` (`AddMember`, `mayRemoveMember`, `isLearnerReady`). There each
//! member judges by its own connections; here the leader does, by the messages that it got.

use std::collections::BTreeMap;

use keelson_proto::internal::{MemberChange, member_change::Op};

use super::{Node, Refusal};
use crate::{MemberId, Millis};

/// A member that was silent for so many election timeouts does not count as healthy. Followers answer
/// every heartbeat, so it is much longer than a loaded machine delays an answer.
const SILENCE_ELECTIONS: u64 = 3;

/// A learner may vote once it has nine tenths of the leader's log; etcd's `readyPercent`.
const READY_TENTHS: u64 = 9;

/// When each member was last heard; by a leader, since it leads.
#[derive(Default)]
pub(super) struct Health {
    heard: BTreeMap<MemberId, Millis>,
}

impl Health {
    pub(super) fn heard(&mut self, member: MemberId, now: Millis) {
        self.heard.insert(member, now);
    }

    pub(super) fn forget(&mut self, member: MemberId) {
        self.heard.remove(&member);
    }
}

impl Node {
    /// Whether the leader may propose that change now.
    pub(super) fn judge(&self, change: &MemberChange) -> Result<(), Refusal> {
        let voters = self.voters();
        match &change.op {
            Some(Op::Add(_)) if !self.all_healthy(&voters) => {
                return Err(Refusal::UnhealthyCluster);
            }
            Some(Op::Remove(id)) => self.judge_removal(MemberId(*id), &voters)?,
            Some(Op::Promote(id)) => self.judge_promotion(*id)?,
            _ => {}
        }
        let fits = self.roster.validate(change);
        fits.map_err(|_| Refusal::MembershipConflict)
    }

    fn all_healthy(&self, voters: &[MemberId]) -> bool {
        !self.config.strict_reconfig_check || voters.iter().all(|voter| self.is_healthy(*voter))
    }

    /// A voter that answers may go if the others that answer are then more than a majority needs. One
    /// that does not may go in any case: that makes a majority smaller.
    fn judge_removal(&self, id: MemberId, voters: &[MemberId]) -> Result<(), Refusal> {
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

    /// Also without the strict check, as in etcd.
    fn judge_promotion(&self, id: u64) -> Result<(), Refusal> {
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

    fn is_healthy(&self, member: MemberId) -> bool {
        if member == self.config.member {
            return true;
        }
        let silence_ms = self.config.election_ms.saturating_mul(SILENCE_ELECTIONS);
        let heard = self.health.heard.get(&member);
        heard.is_some_and(|heard| self.now.0 <= heard.0.saturating_add(silence_ms))
            && !self.failover.is_down(member)
    }
}
