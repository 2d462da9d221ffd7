//! The second phase: the faults end, and the cluster must make progress. TigerBeetle, "Simulation
//! Testing For Liveness": a system that is only safe may be so by doing nothing.

use std::collections::BTreeMap;

use keelson_core::MemberId;
use keelson_core::node::Role;
use keelson_proto::etcdserverpb::RangeRequest;

use super::auth;
use super::world::World;
use crate::check::{register, replay};
use crate::history::{Outcome, Request, Response};
use keelson_model::kv::Kv;

/// Time for the healed core to elect and catch up: some election timeouts, a snapshot or two.
const SETTLE_MS: u64 = 12_000;

/// The same without pre-votes. Of the three remaining members perhaps only one has a log with which
/// it can win, and each candidate before it makes all three draw a new election timeout. Ten
/// elections without a leader are not a fault (they occur in one of sixty such runs), fifty would
/// be.
const SETTLE_WITHOUT_PRE_VOTE_MS: u64 = 60_000;
/// All requests sent within this time must be answered.
const WORK_MS: u64 = 3_000;
/// Then, without further requests, all members must catch up within this time.
const QUIET_MS: u64 = 8_000;
/// Time that a member stays away so that it needs a snapshot, and within which its sender is looked
/// for.
const SENDER_MS: u64 = 3_000;
/// With at most this many catch-up entries a member that was away needs a snapshot.
const SHORT_LOG: u64 = 20;
/// The last period, in which even the leader has no work.
const STILL_MS: u64 = 1_000;
/// Steps of 100 ms, until the last entry is applied everywhere.
const LAST_STEPS: u64 = 20;

impl World {
    /// Heals the cluster, or only a majority of it, and checks that it makes progress.
    pub(super) fn finale(&mut self) -> Result<(), String> {
        self.calm = true;
        self.swarm.calm_down();
        self.net.heal();
        self.outlast_stops()?;
        for member in self.members.values_mut() {
            member.paused_until = 0;
            member.engine_hangs_until = 0;
            member.disk_stalls_until = 0;
        }
        self.repair_all()?;
        if self.dead {
            return self.check_histories();
        }
        let conf = self.invariants.ledger().memberships().next();
        let conf = conf.cloned().unwrap_or_default();
        let belongs = |id: &MemberId| conf.voters.contains(&id.0) || conf.learners.contains(&id.0);
        let (members, strangers): (Vec<_>, Vec<_>) =
            self.members.keys().copied().partition(|id| belongs(id));
        for id in strangers {
            self.retire(id);
        }
        let absent = self.leave_some_out(&conf.voters);
        let is_ghost = |id: &MemberId| self.members.get(id).is_some_and(|member| member.ghost);
        let (mut ghosts, others): (Vec<_>, Vec<_>) = members.iter().copied().partition(is_ghost);
        let mut majorities = self.majorities(&others);
        if majorities.next() == Some(true) && majorities.next() == Some(false) {
            // A leader was removed and ended before any other member learned of that commit: the
            // others still count it. Where the last membership has no majority without the ghosts,
            // that is a fault.
            ghosts.clear();
        }
        drop(majorities);
        for id in &members {
            if !absent.contains(id) && !ghosts.contains(id) {
                self.start(*id)?;
            }
        }
        if absent.is_empty() && ghosts.is_empty() {
            self.stop_a_sender(&conf.voters)?;
        }
        self.heal_all()?;
        self.work()?;
        for id in absent.iter().chain(&ghosts) {
            self.start(*id)?;
        }
        self.catch_up()?;
        self.watches_are_complete()?;
        self.check_everything()
    }

    /// Where disks were damaged, members that cannot go on are replaced first.
    fn repair_all(&mut self) -> Result<(), String> {
        if !self.swarm.troubles.damage {
            return Ok(());
        }
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        for id in ids {
            self.start(id)?;
        }
        self.finish_repairs()
    }

    /// In half of the runs a minority of the voters stays away until the others have made progress.
    /// Those present are a majority of the last two memberships: a member that has not learned that
    /// a removal is committed still counts the removed member, whose machine may be gone.
    fn leave_some_out(&mut self, voters: &[u64]) -> Vec<MemberId> {
        // Members that were never started are an absent minority already.
        let counted = |id: &u64| self.members.get(&MemberId(*id));
        let ghosts = voters.iter().filter_map(counted).any(|member| member.ghost);
        // A member that has lost the end of its log undetected may still be found out and removed.
        let decayed = self.members.values().any(|member| member.decayed);
        if self.dice.chance(0.5) || ghosts || decayed || self.swarm.corruption {
            return Vec::new();
        }
        // A removal that is not committed yet may still be, and remove one of those present.
        let spare = usize::from(self.swarm.membership || self.swarm.troubles.damage);
        let most = ((voters.len() - 1) / 2).saturating_sub(spare);
        let absent: Vec<MemberId> = voters.iter().take(most).map(|id| MemberId(*id)).collect();
        let here = voters.iter().map(|id| MemberId(*id));
        let here: Vec<MemberId> = here.filter(|id| !absent.contains(id)).collect();
        if !self.majorities(&here).all(|majority| majority) {
            return Vec::new();
        }
        for id in &absent {
            self.crash(*id, true);
        }
        absent
    }

    /// Whether the members are a majority of the last membership, and of the one before it.
    fn majorities(&self, members: &[MemberId]) -> impl Iterator<Item = bool> {
        self.invariants.ledger().memberships().map(|conf| {
            let present = |id: &&u64| members.contains(&MemberId(**id));
            conf.voters.len() < 2 * conf.voters.iter().filter(present).count()
        })
    }

    /// In half of the runs a member falls so far behind that it needs a snapshot, and the
    /// snapshot's sender is stopped in the middle of it until the others have made progress.
    fn stop_a_sender(&mut self, voters: &[u64]) -> Result<(), String> {
        // A removal that is not committed yet may still remove one of those present.
        let changes = self.swarm.membership || self.swarm.troubles.damage;
        let enough = if changes { 4 } else { 3 };
        let few = self.swarm.catch_up_entries <= SHORT_LOG;
        if voters.len() < enough || !few || self.dice.chance(0.5) {
            return Ok(());
        }
        self.run_until(self.clock.now_ms() + SENDER_MS)?;
        let follows = |id: &MemberId| {
            let life = self.members.get(id).and_then(|member| member.life.as_ref());
            life.is_some_and(|life| life.consensus.status().soft_state.role == Role::Follower)
        };
        let mut voters = voters.iter().map(|id| MemberId(*id));
        let Some(behind) = voters.find(follows) else {
            return Ok(());
        };
        self.crash(behind, false);
        self.run_until(self.clock.now_ms() + SENDER_MS)?;
        self.start(behind)?;
        // The clock stands at the latest event.
        let started = self.clock.now_ms();
        for at in (started..started + SENDER_MS).step_by(2) {
            if self.sender().is_some() {
                break;
            }
            self.run_until(at)?;
        }
        let settle = self.settle_ms();
        let awake = self.clock.now_ms() + settle + WORK_MS + self.swarm.patience_ms + 100;
        let sender = self.sender().and_then(|id| self.members.get_mut(&id));
        if let Some(member) = sender {
            member.paused_until = awake;
        }
        Ok(())
    }

    pub(super) fn settle_ms(&self) -> u64 {
        match self.swarm.pre_vote {
            true => SETTLE_MS,
            false => SETTLE_WITHOUT_PRE_VOTE_MS,
        }
    }

    fn work(&mut self) -> Result<(), String> {
        let settle = self.settle_ms();
        let healed = self.clock.now_ms();
        self.run_until(healed + settle)?;
        let leads = |world: &World| {
            let running = world.running().into_iter();
            let lives = running.filter_map(|id| world.members.get(&id)?.life.as_ref());
            lives
                .filter(|life| life.consensus.status().soft_state.role == Role::Leader)
                .count()
        };
        if leads(self) != 1 {
            return Err(format!(
                "liveness: {} leaders after {settle} ms of calm",
                leads(self)
            ));
        }
        let first = self.history.operations.len();
        let tree_first = self.tree.history.operations.len();
        self.run_until(healed + settle + WORK_MS)?;
        self.clients.quiet = true;
        let patience = self.swarm.patience_ms;
        self.run_until(healed + settle + WORK_MS + patience + 100)?;
        let speaks_v3 = self.swarm.tree_clients < self.swarm.clients;
        if speaks_v3 && self.history.operations.len() == first {
            // All clients have waited since before this phase.
            return Err(format!(
                "liveness: nothing was answered in {WORK_MS} ms of calm"
            ));
        }
        let asked = self.history.operations[first..].iter();
        let mut unanswered = asked.filter(|operation| match &operation.outcome {
            Outcome::Ok(_) => false,
            // Revisions may be compacted already, or in the future of a member that lags behind.
            Outcome::Refused(why) => !why.contains("revision") && !auth::is_denial(why),
            Outcome::Unknown => true,
        });
        match unanswered.next() {
            None => self.tree_was_answered(tree_first),
            Some(operation) => Err(format!("liveness: not answered in calm: {operation:?}")),
        }
    }

    /// A comparison of hashes, which members request by themselves, may be on its way.
    fn apply_the_last(&mut self, from: u64) -> Result<(), String> {
        for step in 1..=LAST_STEPS {
            let last = self.invariants.ledger().last_committed();
            let mut lives = self.members.values().filter_map(|it| it.life.as_ref());
            if lives.all(|life| life.applied().0 == last) {
                break;
            }
            self.run_until(from + step * 100)?;
        }
        Ok(())
    }

    fn catch_up(&mut self) -> Result<(), String> {
        let quiet_from = self.clock.now_ms();
        self.run_until(quiet_from + QUIET_MS)?;
        self.nothing_is_overdue()?;
        self.locks_pass_on()?;
        self.sessions_have_ended()?;
        self.tree.still = true;
        self.leases.still = true;
        let still_from = self.clock.now_ms().max(quiet_from + QUIET_MS);
        self.run_until(still_from + STILL_MS)?;
        self.apply_the_last(still_from + STILL_MS)?;
        let last = self.invariants.ledger().last_committed();
        let mut hashes = BTreeMap::new();
        for member in self.members.values() {
            let Some(life) = &member.life else {
                continue;
            };
            if life.applied().0 != last {
                let (applied, status) = (life.applied(), life.consensus.status());
                return Err(format!(
                    "liveness: {} has applied {applied} of {last} after {QUIET_MS} ms of quiet; \
                     {status:?}",
                    member.id
                ));
            }
            let view = life.machine().ok_or("a member without state")?.view();
            let hash = view.hash_kv(0).map_err(|error| error.to_string())?;
            let tree = view.tree_digest();
            hashes.insert(
                member.id,
                (hash.hash, view.revision(), view.members(), tree),
            );
        }
        let mut distinct: Vec<_> = hashes.values().collect();
        distinct.dedup();
        match distinct.len() {
            1 => Ok(()),
            _ => Err(format!("members differ at entry {last}: {hashes:?}")),
        }
    }

    /// Checks the whole history with both checkers, and the final state against the model's.
    fn check_everything(&mut self) -> Result<(), String> {
        let mut model = self.check_replay()?;
        self.compare_final_state(&mut model)
    }

    /// Checks the answers of a cluster that has no quorum any more.
    fn check_histories(&mut self) -> Result<(), String> {
        self.check_replay().map(drop)
    }

    fn check_replay(&mut self) -> Result<Kv, String> {
        replay::check(&self.history, &self.watches.commits)
            .map_err(|problem| format!("replay: {problem}"))?;
        register::check(&self.history).map_err(|problem| format!("search: {problem}"))?;
        self.check_trees()?;
        Ok(std::mem::take(&mut self.watches.model))
    }

    fn compare_final_state(&self, model: &mut Kv) -> Result<(), String> {
        let everything = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            ..RangeRequest::default()
        };
        let Ok(Response::Range(expected)) = model.apply(&Request::Range(everything.clone())) else {
            return Err("the model refuses to read".to_owned());
        };
        for member in self.members.values() {
            let machine = member.life.as_ref().and_then(|life| life.machine());
            let Some(machine) = machine else {
                continue;
            };
            let found = machine
                .view()
                .range(&everything)
                .map_err(|e| e.to_string())?;
            if found.kvs != expected.kvs {
                return Err(format!(
                    "{} holds {:?} at the end, not {:?}",
                    member.id, found.kvs, expected.kvs
                ));
            }
        }
        Ok(())
    }
}
