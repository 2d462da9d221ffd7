//! Life and death of processes, and who hears of it.

use keelson_core::MemberId;
use keelson_core::node::Append;

use super::joining::Start;
use super::mutant::Mutant;
use super::nodes::Member;
use super::world::{Event, World};
use crate::invariant::Fact;

impl World {
    pub(super) fn start(&mut self, id: MemberId) -> Result<(), String> {
        let down = |member: &Member| member.life.is_none() && !member.retired;
        if !self.members.get(&id).is_some_and(down) {
            return Ok(());
        }
        let genesis = match self.beginning(id) {
            Start::With(genesis) => genesis,
            Start::Later => {
                let wait = self.dice.between(300, 1_500);
                self.clock.after(wait, Event::Start(id));
                return Ok(());
            }
            Start::Refused(why) => return Err(format!("{id} cannot start: {why}")),
        };
        let (swarm, mutant, seed) = (&self.swarm, self.mutant, self.seed);
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        let started = member.start(swarm, mutant, seed, genesis);
        let (restored, mark) = started.map_err(|why| format!("{id} cannot start: {why}"))?;
        self.tally.restarts += u64::from(1 < member.lives);
        let life = member.life.as_mut().expect("just started");
        let boot = life.log.boot();
        self.fact(&Fact::Recovered {
            member: id,
            boot,
            restored: &restored,
        })?;
        if let Some(mark) = mark {
            let append = Append {
                snapshot: Some((mark, Default::default())),
                ..Default::default()
            };
            let fact = Fact::Appended {
                member: id,
                append: &append,
            };
            self.fact(&fact)?;
            let number = append.number;
            self.invariants
                .observe(&Fact::Synced { member: id, number })?;
        }
        self.report_status(id)?;
        self.check_tree(id, self.clock_ns(id))?;
        let now = self.clock.now_ms();
        self.note(id.0 << 8 ^ boot ^ now << 20);
        self.plan_turn(id, now);
        self.applier_due(id)?;
        self.tell_peers(id, false);
        Ok(())
    }

    /// The process dies, and with it perhaps the power.
    pub(super) fn crash(&mut self, id: MemberId, power_fails: bool) {
        self.note_silence(id);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(mut life) = member.kill() else {
            return;
        };
        if let (Some(Mutant::FlushTorn), Some((_, flush))) = (self.mutant, &life.flushing) {
            member.storage.write_half(&flush.batch);
        }
        member
            .storage
            .crash(&mut life.log, power_fails, &mut self.dice);
        self.transfers_die(id, &life.received);
        let boot = life.log.boot();
        self.net.forget(id, boot);
        self.waiting
            .retain(|request, _| (request.member, request.boot) != (id, life.boot));
        self.note(id.0 << 24 ^ 0xdead);
        self.tell_peers(id, true);
    }

    /// Connections reset, or are accepted again: peers notice, unless the link is cut.
    pub(super) fn tell_peers(&mut self, about: MemberId, down: bool) {
        if !self.swarm.notices {
            return;
        }
        let others: Vec<MemberId> = self.members.keys().copied().collect();
        for other in others {
            let boot = self.boot(other);
            if other != about && boot != 0 && !self.net.is_cut(about, other) {
                let delay = self.dice.between(1, 5);
                self.clock
                    .after(delay, Event::Notice(other, boot, about, down));
            }
        }
    }

    pub(super) fn retire(&mut self, id: MemberId) {
        self.crash(id, false);
        if let Some(member) = self.members.get_mut(&id) {
            member.retired = true;
        }
    }
}
