//! Fast failover: elections without the election timeout once the leader's process has ended.
//!
//! When the leader's process dies, its peers see their connections reset and new ones refused
//! within a millisecond. Waiting for the election timeout would only prolong the outage. A follower
//! that detects this ignores the leader's lease and campaigns. The followers campaign one after the
//! other, so that they do not split the vote. Raft is safe under any timing; pre-vote protects a
//! leader that the other members still reach. A leader that is silent without a reset costs the
//! full timeout.

use std::collections::BTreeSet;

use crate::{MemberId, Millis};

#[derive(Default)]
pub(super) struct Failover {
    down: BTreeSet<MemberId>,
    campaign_at: Option<Millis>,
}

impl Failover {
    pub(super) fn mark_down(&mut self, member: MemberId) {
        self.down.insert(member);
    }

    pub(super) fn mark_up(&mut self, member: MemberId) {
        self.down.remove(&member);
    }

    pub(super) fn is_down(&self, member: MemberId) -> bool {
        self.down.contains(&member)
    }

    /// Plans this member's campaign: `stagger_ms` later for each live voter with a lower id.
    pub(super) fn plan(&mut self, now: Millis, me: MemberId, voters: &[u64], stagger_ms: u64) {
        let ahead = |&&voter: &&u64| voter < me.0 && !self.is_down(MemberId(voter));
        let earlier = voters.iter().filter(ahead).count() as u64;
        self.campaign_at = Some(Millis(now.0 + earlier * stagger_ms));
    }

    /// Cancels the plan: a leader exists again, or this member has campaigned.
    pub(super) fn clear_plan(&mut self) {
        self.campaign_at = None;
    }

    pub(super) fn postpone(&mut self, until: Millis) {
        self.campaign_at = Some(until);
    }

    pub(super) fn is_due(&self, now: Millis) -> bool {
        self.campaign_at.is_some_and(|at| at <= now)
    }

    pub(super) fn wake_at(&self) -> Option<Millis> {
        self.campaign_at
    }
}
