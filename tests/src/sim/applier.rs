//! The member's applier on the virtual clock: its work arrives late, and its effects take time.

use bytes::Bytes;
use keelson_core::member::{
    ApplierEffects, ApplierEvent, ConsensusEvent, EngineNumber, ExpirerEvent, LessorEvent,
};
use keelson_core::node::{Input, Role};
use keelson_core::state::{Applied, Flush};
use keelson_core::{Committed, Index, MemberId, Millis, proposal};
use keelson_proto::internal::Command;
use prost::Message;

use super::event::{Event, Waiter};
use super::mutant::Mutant;
use super::nodes::Life;
use super::world::World;
use crate::invariant::Fact;

/// A state's hash covers all of it, so it is compared only once for so many entries.
const HASH_EVERY: u64 = 64;

/// Work that waits for the applier's turn.
pub(super) enum Work {
    Entry(Box<Committed>),
    Capture,
}

impl Work {
    /// Whether a snapshot of that entry leaves this to be done.
    pub(super) fn is_after(&self, last_included: Index) -> bool {
        match self {
            Work::Entry(committed) => last_included < committed.entry.index,
            Work::Capture => true,
        }
    }
}

impl World {
    /// Queues work for the applier: entries, and captures, which include the entries before them,
    /// wait for its turn. Other work is done at once.
    pub(super) fn hand_out(&mut self, id: MemberId, work: ApplierEvent) -> Result<(), String> {
        match work {
            ApplierEvent::Committed(entries) => self.committed(id, entries),
            ApplierEvent::Read(ready) => self.read_ready(id, ready),
            ApplierEvent::Capture => {
                if let Some(life) = self.life(id) {
                    life.apply_queue.push_back(Work::Capture);
                }
                self.begin_apply(id);
                Ok(())
            }
            work => self.applier_takes(id, work),
        }
    }

    fn committed(&mut self, id: MemberId, entries: Vec<Committed>) -> Result<(), String> {
        for committed in &entries {
            self.fact(&Fact::Committed {
                member: id,
                committed,
            })?;
            if self.invariants.ledger().newly_committed.is_some() {
                self.newly_committed(committed)?;
                self.tree.log.commit(committed)?;
                self.lease_commits(committed)?;
            }
        }
        if let Some(life) = self.life(id) {
            life.apply_queue
                .extend(entries.into_iter().map(Box::new).map(Work::Entry));
        }
        self.begin_apply(id);
        Ok(())
    }

    fn newly_committed(&mut self, committed: &Committed) -> Result<(), String> {
        self.note(committed.entry.index.0 << 16 ^ committed.entry.term.0);
        if let Some(conf) = &committed.conf {
            self.membership_changed(conf);
        } else if let Some((_, command)) = proposal::decode(&committed.entry.data) {
            let (index, term) = (committed.entry.index, committed.entry.term);
            let command = Command::decode(command).map_err(|error| error.to_string())?;
            if let Some(op) = command.op.and_then(|op| self.auth_commits(index, op)) {
                self.watches.commit(index, term, op);
                self.auth_counts(index);
            }
        }
        Ok(())
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
            match life.apply_queue.pop_front() {
                Some(Work::Entry(committed)) => self.apply_one(id, *committed)?,
                Some(Work::Capture) => self.applier_takes(id, ApplierEvent::Capture)?,
                None => break,
            }
        }
        if let Some(life) = self.life(id) {
            life.applying = false;
        }
        self.applier_due(id)?;
        self.begin_apply(id);
        Ok(())
    }

    fn apply_one(&mut self, id: MemberId, mut entry: Committed) -> Result<(), String> {
        let index = entry.entry.index;
        let skipped =
            self.mutant == Some(Mutant::EntrySkipped) && id.0 == 2 && index.0.is_multiple_of(50);
        if skipped {
            entry.entry.data = Bytes::new();
        }
        self.mistake_entry(id, &mut entry);
        self.corrupt_entry(id, &mut entry);
        self.applier_takes(id, ApplierEvent::Committed(vec![entry]))
    }

    /// Passes work to an applier, and carries out the effects.
    pub(super) fn applier_takes(&mut self, id: MemberId, work: ApplierEvent) -> Result<(), String> {
        let mut effects = ApplierEffects::default();
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        life.applier
            .handle(work, &mut effects)
            .map_err(|error| error.to_string())?;
        self.carry_out_applied(id, effects)
    }

    /// Runs what is due in an applier.
    pub(super) fn applier_due(&mut self, id: MemberId) -> Result<(), String> {
        let now = self.clock.now_ms();
        let mut effects = ApplierEffects::default();
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let (boot, planned) = (life.log.boot(), life.applier_due_at);
        let applier = &mut life.applier;
        let before = applier.state().unflushed().records;
        let due = applier.tick(Millis(now), &mut effects).0;
        let after = applier.state().unflushed().records;
        let given_up = effects.flush.is_none() && before < after;
        let still_planned = planned.filter(|planned| now < *planned && *planned <= due);
        if still_planned.is_none() {
            life.applier_due_at = (due != u64::MAX).then_some(due);
            if due != u64::MAX {
                let wait = due.saturating_sub(now);
                self.clock.after(wait, Event::ApplierDue(id, boot));
            }
        }
        self.carry_out_applied(id, effects)?;
        // The rows that the compaction gives up leave the engine with some later flush. This is the
        // moment to compare the contents of a snapshot.
        if given_up {
            self.stand_still(id);
        }
        match given_up && self.dice.chance(0.5) {
            true => self.audit(id),
            false => Ok(()),
        }
    }

    pub(super) fn carry_out_applied(
        &mut self,
        id: MemberId,
        effects: ApplierEffects,
    ) -> Result<(), String> {
        let has_applied = !effects.applied.is_empty();
        for applied in effects.applied {
            self.applied(id, applied)?;
        }
        if has_applied {
            self.plan_fan_out(id);
        }
        if effects.members_changed {
            self.members_change(id);
        }
        // They are refused by the fence, which they meet at once.
        for context in effects.reads_refused {
            self.read_done(id, context)?;
        }
        for context in effects.reads_done {
            self.read_done(id, context)?;
        }
        for note in effects.audit {
            self.note_report(id, note);
            self.event(id, ConsensusEvent::Audit(note));
        }
        for input in effects.inputs {
            let input = self.mistake_input(id, input);
            self.input(id, input);
        }
        if let Some(capture) = effects.captured {
            if self.mutant == Some(Mutant::SnapshotStale)
                && let Some(life) = self.life(id)
            {
                life.captures.push(capture.clone());
                let spare = life.captures.len().saturating_sub(2);
                life.captures.drain(..spare);
            }
            self.event(id, ConsensusEvent::Captured(capture));
        }
        if let Some(flush) = effects.flush {
            self.begin_flush(id, flush);
        }
        Ok(())
    }

    /// A mutant: truncates the log up to the applied index instead of the engine's.
    fn mistake_input(&mut self, id: MemberId, input: Input) -> Input {
        match (self.mutant, input) {
            (Some(Mutant::TruncateTooFar), Input::Durable { .. }) => {
                let index = self.life(id).map_or(Index(0), |life| life.applied());
                Input::Durable { index }
            }
            (_, input) => input,
        }
    }

    /// A member has applied an entry.
    fn applied(&mut self, id: MemberId, applied: Applied) -> Result<(), String> {
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let applier = &life.applier;
        let (index, view) = (applier.applied(), applier.view().clone());
        let Some(applied) = self.wrong_outcome(id, index, applied)? else {
            return Ok(());
        };
        self.tree.log.compare(id, index, &applied, &view)?;
        let (hash, tree) = match index.0 % HASH_EVERY {
            0 => {
                let hash = view.hash_kv(0).map_err(|e| e.to_string())?.hash;
                (Some(hash), Some(view.tree_digest()))
            }
            _ => (None, None),
        };
        self.check_verdict(index, &applied.response)?;
        let auth = self.compare_auth(id)?;
        self.fact(&Fact::Applied {
            member: id,
            index,
            revision: applied.revision,
            hash,
            tree,
            auth,
        })?;
        self.publish_changes(id, &applied.events);
        self.compare_leases(id)?;
        if !applied.leases.is_empty() && self.leads(id) {
            self.lessor_takes(id, LessorEvent::Changed(applied.leases))?;
        }
        match applied.id.and_then(|id| self.waiting.remove(&id)) {
            Some(Waiter::Client(operation)) => self.answer(operation, applied.response),
            Some(Waiter::Tree(operation)) => self.answer_tree(id, operation, applied.response)?,
            Some(Waiter::Expirer(number)) => {
                self.expirer_takes(id, ExpirerEvent::Done(number));
            }
            Some(Waiter::Lessor(number)) => self.lessor_takes(id, LessorEvent::Done(number))?,
            Some(Waiter::Holder(number, operation)) => {
                self.holder_answered(number, operation, applied.response)?;
            }
            Some(Waiter::LockCall(number, step)) => {
                self.call_answered(number, step, Some(applied.response))?;
            }
            Some(Waiter::Unlock(number, operation)) => {
                self.unlock_ends(number, operation, Some(applied.response))?;
            }
            Some(Waiter::Admin(number)) => {
                self.admin_answered(number, Some((index.0, applied.response)))?;
            }
            None => {}
        }
        Ok(())
    }

    fn leads(&mut self, id: MemberId) -> bool {
        let role = |life: &mut Life| life.consensus.status().soft_state.role;
        self.life(id).map(role) == Some(Role::Leader)
    }

    fn begin_flush(&mut self, id: MemberId, flush: (EngineNumber, Flush)) {
        let delay = self.sync_ms().max(self.engine_hangs_ms(id));
        let Some(life) = self.life(id) else {
            return;
        };
        let (boot, index) = (life.log.boot(), flush.1.index);
        life.flushing = Some(flush);
        self.clock.after(delay, Event::Flushed(id, boot, index));
    }

    pub(super) fn flushed(&mut self, id: MemberId, index: Index) -> Result<(), String> {
        let mutant = self.mutant;
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        let Some(life) = member.life.as_mut() else {
            return Ok(());
        };
        let flushing = life.flushing.take_if(|(_, flush)| flush.index == index);
        let Some((engine, flush)) = flushing else {
            return Ok(());
        };
        match mutant {
            Some(Mutant::FlushWithoutMark) => member.storage.write_rows_only(&flush.batch),
            _ => member.storage.write(&flush.batch),
        }
        self.applier_takes(id, ApplierEvent::Flushed { engine, flush })?;
        self.applier_due(id)
    }
}
