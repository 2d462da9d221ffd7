//! Starts and deaths of processes, and the peers that notice them.

use keelson_core::node::{Append, Restored};
use keelson_core::{LastIncluded, MemberId};

use super::event::Event;
use super::joining::Start;
use super::mutant::Mutant;
use super::nodes::Member;
use super::world::World;
use crate::invariant::Fact;

/// The result of a start.
pub(super) enum Attempt {
    /// The process runs, with the contents of its log, and the last included entry of the snapshot
    /// behind which the log has begun anew, if any.
    Started(Box<Restored>, Option<LastIncluded>),
    /// The process must not go on, for this reason.
    Refused(String),
    /// The start is tried again.
    Later,
}

impl World {
    pub(super) fn start(&mut self, id: MemberId) -> Result<(), String> {
        let damages = self.swarm.troubles.damage && !self.calm;
        let backs_up = damages && self.dice.chance(0.3);
        let down =
            |member: &&mut Member| member.life.is_none() && !member.retired && !member.broken;
        let Some(member) = self.members.get_mut(&id).filter(down) else {
            return Ok(());
        };
        if backs_up {
            member.storage.back_up();
        }
        let has_lost_disk = member.has_lost_disk;
        if let Some(damage) = member.damage.take().filter(|_| damages) {
            return self.start_damaged(id, damage);
        }
        match self.attempt(id) {
            Attempt::Started(restored, mark) => self.started(id, &restored, mark),
            Attempt::Refused(why) if has_lost_disk => self.break_down(id, &why),
            Attempt::Refused(why) => Err(format!("{id} cannot start: {why}")),
            Attempt::Later => Ok(()),
        }
    }

    /// Starts the process, if there is any data to start with.
    pub(super) fn attempt(&mut self, id: MemberId) -> Attempt {
        let genesis = match self.beginning(id) {
            Start::With(genesis) => genesis,
            Start::Later => {
                let wait = self.dice.between(300, 1_500);
                self.clock.after(wait, Event::Start(id));
                return Attempt::Later;
            }
            Start::Refused(why) => return Attempt::Refused(why),
        };
        let (swarm, mutant, seed) = (&self.swarm, self.mutant, self.seed);
        let Some(member) = self.members.get_mut(&id) else {
            return Attempt::Later;
        };
        match member.start(swarm, mutant, seed, genesis) {
            Ok((restored, mark)) => Attempt::Started(Box::new(restored), mark),
            Err(why) => Attempt::Refused(why),
        }
    }

    /// A process runs, with these contents of its log.
    pub(super) fn started(
        &mut self,
        id: MemberId,
        restored: &Restored,
        mark: Option<LastIncluded>,
    ) -> Result<(), String> {
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        self.tally.restarts += u64::from(1 < member.lives);
        let life = member.life.as_mut().expect("just started");
        let boot = life.log.boot();
        member.last_boot = boot;
        self.fact(&Fact::Recovered {
            member: id,
            boot,
            restored,
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
        self.state_replaced(id, false);
        self.report_status(id)?;
        self.check_tree(id, self.clock_ns(id))?;
        self.compare_auth(id)?;
        let now = self.clock.now_ms();
        self.note(id.0 << 8 ^ boot ^ now << 20);
        self.plan_turn(id, now);
        self.applier_due(id)?;
        self.tell_peers(id, false);
        if self.swarm.troubles.damage || self.swarm.corruption {
            self.clock.after(200, Event::Publish(id, boot));
        }
        Ok(())
    }

    /// The process dies, perhaps with a loss of power.
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
            .retain(|request, _| (request.member, request.incarnation) != (id, life.boot));
        self.note(id.0 << 24 ^ 0xdead);
        self.tell_peers(id, true);
    }

    /// Connections are reset, or accepted again: peers notice, unless the link is cut.
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
