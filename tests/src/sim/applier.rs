//! The applier: committed entries into the state machine, and from its overlay into the engine.

use bytes::Bytes;
use keelson_core::node::Input;
use keelson_core::{Committed, Index, MemberId, ProposalId, proposal};

use super::mutant::Mutant;
use super::world::{Event, Waiter, World};
use crate::invariant::Fact;

/// A state's hash is compared every so many entries: it reads all of it.
const HASH_EVERY: u64 = 64;

impl World {
    pub(super) fn hand_out(
        &mut self,
        id: MemberId,
        committed: Vec<Committed>,
    ) -> Result<(), String> {
        for committed in &committed {
            self.fact(&Fact::Committed {
                member: id,
                committed,
            })?;
            if self.invariants.ledger().newly_committed.is_some() {
                self.newly_committed(committed);
                self.tree.log.commit(committed)?;
            }
        }
        if let Some(life) = self.life(id) {
            life.apply_queue.extend(committed);
        }
        self.begin_apply(id);
        Ok(())
    }

    pub(super) fn newly_committed(&mut self, committed: &Committed) {
        self.note(committed.entry.index.0 << 16 ^ committed.entry.term.0);
        if let Some(conf) = &committed.conf {
            self.membership_changed(conf);
        } else if let Some((_, command)) = proposal::decode(&committed.entry.data) {
            self.commands.push(command);
        }
    }

    pub(super) fn begin_apply(&mut self, id: MemberId) {
        let delay = self.dice.between(0, self.swarm.apply_ms);
        let Some(life) = self.life(id) else {
            return;
        };
        if !life.applying && !life.apply_queue.is_empty() {
            life.applying = true;
            let boot = life.log.boot();
            self.clock.after(delay, Event::Apply(id, boot));
        }
    }

    pub(super) fn apply(&mut self, id: MemberId) -> Result<(), String> {
        let most = self.dice.between(1, 64);
        for _ in 0..most {
            let Some(life) = self.life(id) else {
                return Ok(());
            };
            let Some(committed) = life.apply_queue.pop_front() else {
                break;
            };
            self.apply_one(id, committed)?;
        }
        if let Some(life) = self.life(id) {
            life.applying = false;
        }
        self.serve_ready(id)?;
        self.begin_apply(id);
        Ok(())
    }

    pub(super) fn apply_one(&mut self, id: MemberId, mut entry: Committed) -> Result<(), String> {
        let index = entry.entry.index;
        let skipped =
            self.mutant == Some(Mutant::EntrySkipped) && id.0 == 2 && index.0.is_multiple_of(50);
        if skipped {
            entry.entry.data = Bytes::new();
        }
        self.mistake_entry(id, &mut entry);
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        let life = member.life.as_mut().expect("a running process applies");
        let machine = life
            .machine
            .as_mut()
            .ok_or("entries for a member without state")?;
        let request = match &entry.conf {
            Some(conf) => Some(conf.id),
            None => proposal::decode(&entry.entry.data).map(|(request, _)| request),
        };
        let mine = |request: &ProposalId| request.member == id && request.boot == life.boot;
        let waiter = request.filter(mine).and_then(|id| self.waiting.remove(&id));
        let applied = machine
            .apply(&entry, waiter.is_some())
            .map_err(|error| error.to_string())?;
        let view = machine.view();
        self.tree.log.compare(id, index, &applied, &view)?;
        let (hash, tree) = match index.0 % HASH_EVERY {
            0 => {
                let hash = view.hash_kv(0).map_err(|e| e.to_string())?.hash;
                (Some(hash), Some(view.tree_digest()))
            }
            _ => (None, None),
        };
        self.fact(&Fact::Applied {
            member: id,
            index,
            revision: applied.revision,
            hash,
            tree,
        })?;
        self.mistake_events(id, &applied.events)?;
        match waiter {
            Some(Waiter::Client(operation)) => self.answer(operation, applied.response),
            Some(Waiter::Tree(operation)) => self.answer_tree(id, operation, applied.response)?,
            Some(Waiter::Expirer) => self.expirer_hears(id),
            None => {}
        }
        Ok(())
    }

    /// A step of the compaction: what it gives up leaves the engine with some later flush. That is the
    /// moment to look at what a snapshot would hold.
    pub(super) fn sweep(&mut self, id: MemberId) -> Result<(), String> {
        let delay = self.dice.between(1, self.swarm.flush_every_ms);
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let boot = life.log.boot();
        let mut given_up = 0;
        if let Some(machine) = &mut life.machine {
            let before = machine.unflushed().records;
            machine.compact_step();
            given_up = machine.unflushed().records - before;
        }
        self.clock.after(delay, Event::Sweep(id, boot));
        match 0 < given_up && self.dice.chance(0.5) {
            true => self.audit(id),
            false => Ok(()),
        }
    }

    pub(super) fn flush(&mut self, id: MemberId) {
        let delay = self.sync_ms().max(self.engine_hangs_ms(id));
        let every = self.swarm.flush_every_ms;
        let now = self.clock.now_ms();
        let Some(life) = self.life(id) else {
            return;
        };
        let boot = life.log.boot();
        let mut flushed = None;
        let released = life.release_capture(now);
        if let Some(machine) = &mut life.machine
            && life.flushing.is_none()
        {
            life.flushing = machine.freeze();
            flushed = life.flushing.as_ref().map(|flush| flush.index);
        }
        if let Some(index) = flushed {
            self.clock.after(delay, Event::Flushed(id, boot, index));
        }
        self.clock.after(every, Event::Flush(id, boot));
        if let Some(mark) = released {
            self.input(id, Input::SnapshotReleased { mark });
        }
    }

    pub(super) fn flushed(&mut self, id: MemberId, index: Index) {
        let mutant = self.mutant;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(life) = member.life.as_mut() else {
            return;
        };
        let Some(flush) = life.flushing.take_if(|flush| flush.index == index) else {
            return;
        };
        match mutant {
            Some(Mutant::FlushWithoutMark) => member.storage.write_rows_only(&flush.batch),
            _ => member.storage.write(&flush.batch),
        }
        let applied = life.applied();
        if let Some(machine) = &mut life.machine {
            machine.flushed(flush);
        }
        let index = match mutant {
            Some(Mutant::TruncateTooFar) => applied,
            _ => index,
        };
        self.input(id, Input::Durable { index });
    }
}
