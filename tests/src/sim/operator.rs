//! The operator, which replaces members that refuse to go on, and members that publish their URLs.

use keelson_core::MemberId;
use keelson_core::member::has_run;
use keelson_core::node::Input;
use keelson_core::state::COMMAND_VERSION;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{Command, MemberAttributes, member_change};
use prost::Message;

use super::damage::Damage;
use super::event::Event;
use super::nodes::Member;
use super::storage::Storage;
use super::world::World;

/// The time within which the healed cluster's operator finishes, in milliseconds.
const REPAIRS_MS: u64 = 120_000;

impl Member {
    /// Whether its disk is undamaged.
    pub(super) fn is_sound(&self) -> bool {
        let lost = self.broken || self.decayed || self.has_lost_disk;
        !lost && self.damage.is_none()
    }
}

impl World {
    /// A member refuses to start, or to go on: the operator removes it from the cluster and adds
    /// another.
    pub(super) fn break_down(&mut self, id: MemberId, why: &str) -> Result<(), String> {
        self.tally.refused += 1;
        self.note(id.0 << 16 ^ 0xb0);
        if self.trace {
            println!("{:>8} {id} refuses: {why}", self.clock.now_ms());
        }
        self.crash(id, false);
        if let Some(member) = self.members.get_mut(&id) {
            member.broken = true;
        }
        self.repairs.insert(id, None);
        let (_, conf) = self.invariants.ledger().membership();
        let is_broken = |voter: &&u64| self.member(**voter).is_some_and(|member| member.broken);
        let broken = conf.voters.iter().filter(is_broken).count();
        if conf.voters.len() <= 2 * broken {
            // The rest of the run would need a restored backup.
            self.dead = true;
            self.tally.ended += 1;
            return match self.all_damaged {
                true => Ok(()),
                false => Err(format!("{broken} voters of {conf:?} refuse: {why}")),
            };
        }
        let delay = self.dice.between(500, 4_000);
        self.clock.after(delay, Event::Repair(id));
        Ok(())
    }

    fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&MemberId(id))
    }

    /// The operator's next step.
    pub(super) fn repair(&mut self, id: MemberId) {
        let Some(added) = self.repairs.get(&id).cloned() else {
            return;
        };
        let (_, conf) = self.invariants.ledger().membership();
        let is_in = |id: u64| conf.voters.contains(&id);
        let change = match &added {
            _ if is_in(id.0) => member_change::Op::Remove(id.0),
            Some(member_change::Op::Add(member)) if is_in(member.id) => {
                self.repairs.remove(&id);
                return;
            }
            Some(add) => add.clone(),
            None => {
                let add = self.draw_add(false);
                self.repairs.insert(id, Some(add.clone()));
                add
            }
        };
        self.ask_for(change);
        let delay = self.dice.between(1_000, 2_000);
        self.clock.after(delay, Event::Repair(id));
    }

    /// Waits until no member is broken any more.
    pub(super) fn finish_repairs(&mut self) -> Result<(), String> {
        let until = self.clock.now_ms() + REPAIRS_MS;
        // A member that has lost acknowledged entries is refused by the leader.
        let lost = self.members.values().any(|member| member.decayed);
        let settle = self.settle_ms();
        let mut wait = if lost { settle } else { 0 };
        loop {
            self.run_until(self.clock.now_ms() + wait)?;
            if self.repairs.is_empty() || self.dead {
                return Ok(());
            }
            if until <= self.clock.now_ms() {
                let left: Vec<_> = self.repairs.keys().collect();
                return Err(format!("liveness: {left:?} were not replaced in calm"));
            }
            wait = 1_000;
        }
    }

    // === breaking members ===

    /// A voter that may be lost for good: the others stay a majority, and none of them can restart
    /// with an older membership.
    fn may_break(&self, id: MemberId) -> bool {
        let (index, conf) = self.invariants.ledger().membership();
        let is_well = |voter: &&u64| {
            let member = self.member(**voter).filter(|member| member.is_sound());
            let life = member.and_then(|member| member.life.as_ref());
            **voter != id.0 && life.is_some_and(|life| index <= life.durable().0)
        };
        let well = conf.voters.iter().filter(is_well).count();
        let lost = conf.voters.iter().filter(|voter| {
            let member = self.member(**voter);
            **voter == id.0 || !member.is_some_and(Member::is_sound)
        });
        let lost = lost.count();
        conf.voters.contains(&id.0)
            && self.repairs.is_empty()
            && conf.voters.len() < 2 * well
            && conf.voters.len() == well + lost
            && self.member(id.0).is_some_and(Member::is_sound)
    }

    fn pick_to_break(&mut self) -> Option<MemberId> {
        let ids = self.members.keys().copied();
        let ids: Vec<MemberId> = ids.filter(|id| self.may_break(*id)).collect();
        self.dice.pick(&ids)
    }

    /// A member's disk is damaged while its process is down.
    pub(super) fn damage_one(&mut self) {
        let Some(id) = self.pick_to_break() else {
            return;
        };
        let power_fails = self.dice.chance(0.5);
        self.crash_for_a_while(id, power_fails);
        let damage = Damage::draw(&mut self.dice, self.mutant);
        if let Some(member) = self.members.get_mut(&id) {
            member.damage = Some(damage);
        }
    }

    /// All lose power, and all disks are damaged, each at another place. Happens once in a run.
    pub(super) fn damage_all(&mut self) {
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        let (index, conf) = self.invariants.ledger().membership();
        let voters = conf.voters.clone();
        let is_well = |id: &u64| {
            let member = self.member(*id).filter(|member| member.is_sound());
            let life = member.and_then(|member| member.life.as_ref());
            life.is_some_and(|life| index <= life.durable().0)
        };
        if !voters.iter().all(is_well) || !self.repairs.is_empty() {
            return;
        }
        self.swarm.troubles.damage_all = false;
        self.all_damaged = true;
        for id in ids.into_iter().filter(|id| voters.contains(&id.0)) {
            self.crash_for_a_while(id, true);
            let damage = Damage::draw(&mut self.dice, self.mutant);
            if let Some(member) = self.members.get_mut(&id) {
                member.damage = Some(damage);
            }
        }
    }

    /// A member restarts with an empty disk, under its old id.
    pub(super) fn lose_disk(&mut self) {
        let Some(id) = self.pick_to_break().filter(|id| self.is_known_to_run(*id)) else {
            return;
        };
        self.crash_for_a_while(id, false);
        if let Some(member) = self.members.get_mut(&id) {
            member.storage = Storage::new();
            member.has_lost_disk = true;
        }
    }

    fn crash_for_a_while(&mut self, id: MemberId, power_fails: bool) {
        self.crash(id, power_fails);
        let away = self.dice.between(50, 5_000);
        self.clock.after(away, Event::Start(id));
    }

    // === running members ===

    fn is_known_to_run(&self, id: MemberId) -> bool {
        let lives = self
            .members
            .values()
            .filter_map(|member| member.life.as_ref());
        let newest = lives.max_by_key(|life| life.applied());
        newest.is_some_and(|life| has_run(id, &life.applier.state().view().members()))
    }

    /// A member publishes its client URLs, until it finds them applied.
    pub(super) fn publish(&mut self, id: MemberId) {
        let Some(life) = self.life(id) else {
            return;
        };
        let (boot, view) = (life.log.boot(), life.applier.state().view());
        if has_run(id, &view.members()) {
            return;
        }
        let attributes = MemberAttributes {
            member_id: id.0,
            name: format!("m{}", id.0),
            client_urls: vec![format!("http://m{}:2379", id.0)],
            command_version: COMMAND_VERSION,
        };
        let op = Some(Op::MemberAttributes(attributes));
        let command = Command { op }.encode_to_vec().into();
        if let Some(name) = self.name_proposal(id) {
            self.input(id, Input::Propose { id: name, command });
        }
        self.clock.after(1_000, Event::Publish(id, boot));
    }
}
