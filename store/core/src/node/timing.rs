//! Time: ticks, election timeouts and campaigns.

use raft::StateRole;

use super::{Node, NodeConfig, Output};
use crate::{Index, MemberId, Millis, mix};

/// The configuration of raft-rs. Its unit of time is one heartbeat.
pub(super) fn raft_config(config: &NodeConfig, applied: u64) -> raft::Config {
    let election_tick = election_ticks(config);
    raft::Config {
        id: config.member.0,
        election_tick,
        heartbeat_tick: 1,
        applied,
        max_size_per_msg: config.append_bytes_max,
        max_inflight_msgs: super::load::IN_FLIGHT_MAX,
        check_quorum: true,
        pre_vote: config.pre_vote,
        read_only_option: raft::ReadOnlyOption::Safe,
        // raft-rs 0.7 adds entries to an earlier, empty append at another position: the follower
        // then acknowledges an entry that it does not have, and committed entries are lost.
        batch_append: false,
        max_uncommitted_size: config.uncommitted_bytes_max,
        max_committed_size_per_ready: 4 << 20,
        ..raft::Config::default()
    }
}

fn election_ticks(config: &NodeConfig) -> usize {
    let ticks = config.election_ms / config.heartbeat_ms.max(1);
    usize::try_from(ticks.clamp(2, 10_000)).expect("bounded just above")
}

impl Node {
    /// Ticks if a heartbeat interval has passed. A process that was paused ticks once, not once per
    /// missed interval: otherwise it would campaign before it had read the messages of its peers.
    pub(super) fn advance_time(&mut self) {
        if self.last_tick.0 + self.config.heartbeat_ms <= self.now.0 {
            self.last_tick = self.now;
            self.raw.tick();
            self.settle_timeout();
        }
        if self.failover.is_due(self.now) {
            self.campaign_after_failure();
        }
    }

    /// Campaigns at once if this member is the only voter: there is no other leader to wait for or
    /// to disrupt. True if it leads now.
    pub(super) fn lead_as_only_voter(&mut self) -> bool {
        let raft = &self.raw.raft;
        let followed = raft.prs().get(raft.leader_id).is_some();
        if followed || self.removed || !raft.promotable() {
            return false;
        }
        if raft.prs().conf().to_conf_state().voters != [self.config.member.0] {
            return false;
        }
        // The only error: an unapplied membership change forbids it.
        let _ = self.raw.campaign();
        self.settle_timeout();
        self.is_leader()
    }

    pub(super) fn wake_at(&self) -> Millis {
        let mut at = Millis(self.last_tick.0 + self.config.heartbeat_ms);
        if let Some(campaign_at) = self.failover.wake_at() {
            at = at.min(campaign_at);
        }
        if let Some(late) = self.reads.wake_at(self.now, self.config.election_ms / 2) {
            at = at.min(late.max(Millis(self.now.0 + 1)));
        }
        at
    }

    /// Replaces raft-rs's randomized election timeout, which uses the thread's random numbers, by
    /// one drawn from seed, member, term and role: reproducible, and different for each member.
    pub(super) fn settle_timeout(&mut self) {
        let raft = &mut self.raw.raft;
        let role = raft.state as u64;
        let seed = self.config.seed;
        let drawn = mix(mix(mix(mix(seed) ^ self.config.member.0) ^ raft.term) ^ role);
        let base = raft.election_timeout();
        let offset = usize::try_from(drawn % base as u64).expect("smaller than a timeout");
        raft.set_randomized_election_timeout(base + offset);
    }

    pub(super) fn take_peer_down(&mut self, member: MemberId) {
        self.failover.mark_down(member);
        self.raw.report_unreachable(member.0);
        let raft = &mut self.raw.raft;
        let followed = raft.leader_id == member.0 && raft.state == StateRole::Follower;
        if !followed || !self.config.pre_vote || !raft.promotable() {
            return;
        }
        // The dead leader's lease is void: this member answers pre-votes from now on.
        raft.election_elapsed = raft.election_elapsed.max(raft.election_timeout());
        let voters = raft.prs().conf().to_conf_state().voters;
        let me = self.config.member;
        self.failover.plan(self.now, me, &voters, self.stagger_ms());
    }

    fn campaign_after_failure(&mut self) {
        let leader = MemberId(self.raw.raft.leader_id);
        let still_dead = leader == MemberId::NONE || self.failover.is_down(leader);
        if self.is_leader() || !still_dead {
            return self.failover.clear_plan();
        }
        // The only error: an unapplied membership change forbids it.
        let _ = self.raw.campaign();
        self.settle_timeout();
        // Peers that have not detected the death yet reject the pre-vote. The next campaign follows
        // soon, but at a random offset: in step with the other survivors, the vote would split for
        // ever.
        let voters = self.raw.raft.prs().conf().to_conf_state().voters.len() as u64;
        let round_ms = self.stagger_ms() * (voters + 1);
        let drawn = self.draw(self.raw.raft.term);
        self.failover
            .postpone(Millis(self.now.0 + round_ms + drawn % round_ms));
    }

    /// A pseudo-random number from seed, member and `word`.
    fn draw(&self, word: u64) -> u64 {
        mix(mix(mix(self.config.seed) ^ self.config.member.0) ^ word)
    }

    /// The time between the campaigns of two survivors, in milliseconds.
    fn stagger_ms(&self) -> u64 {
        (self.config.heartbeat_ms / 4).max(5)
    }

    pub(super) fn transfer_leader(&mut self, to: Option<MemberId>) {
        let Some(to) = to.or_else(|| self.best_successor()) else {
            return;
        };
        if self.is_leader() && to != self.config.member {
            self.raw.transfer_leader(to.0);
        }
    }

    /// The voter with the longest log among those that answer.
    fn best_successor(&self) -> Option<MemberId> {
        let progress = self.raw.raft.prs();
        let voters = progress.conf().to_conf_state().voters;
        let candidates = voters.into_iter().filter(|voter| {
            *voter != self.config.member.0 && !self.failover.is_down(MemberId(*voter))
        });
        let furthest = candidates.max_by_key(|voter| {
            let matched = progress.get(*voter).map_or(0, |peer| peer.matched);
            let active = self.answered_within(MemberId(*voter), self.config.election_ms);
            (active, matched)
        });
        furthest.map(MemberId)
    }

    /// The engine holds everything up to `index` durably: drops entries that no follower needs from
    /// the log in memory.
    pub(super) fn take_durable(&mut self, index: Index, output: &mut Output) {
        self.durable = self.durable.max(index.0);
        let (entries_max, bytes_max) = (self.config.catch_up_entries, self.config.catch_up_bytes);
        let log = self.raw.store();
        let crowded = entries_max + entries_max / 4 < log.len()
            || bytes_max + bytes_max / 4 < log.size_bytes();
        if !crowded {
            return;
        }
        let allowed = self.durable.min(self.delivered);
        let mut keep = log.keep_from(allowed, entries_max, bytes_max);
        if log.size_bytes() < bytes_max.saturating_mul(4) {
            keep = keep.min(self.needed_by_followers());
        }
        if let Some(last_included) = self.raw.mut_store().compact(keep.saturating_sub(1)) {
            output.truncate = Some(last_included);
        }
    }

    /// The first entry that a follower may still need: one that is healthy, or that is being sent a
    /// snapshot. raft-rs's `recent_active` is no measure: it is cleared once per election timeout.
    fn needed_by_followers(&self) -> u64 {
        if !self.is_leader() {
            return u64::MAX;
        }
        let others = self.raw.raft.prs().iter();
        let others = others.filter(|(id, _)| **id != self.config.member.0);
        let needed = others.filter_map(|(id, peer)| match peer.state {
            raft::ProgressState::Snapshot => Some(peer.pending_snapshot + 1),
            _ => self.is_healthy(MemberId(*id)).then_some(peer.matched + 1),
        });
        needed.min().unwrap_or(u64::MAX)
    }
}
