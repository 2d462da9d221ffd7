//! The core's lessor on a virtual clock that drifts.

use std::collections::BTreeMap;

use keelson_core::member::{LeaseOutcome, Lessor, LessorEffects, LessorEvent};
use keelson_core::node::Input;
use keelson_core::{MemberId, Millis};
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use prost::Message;

use super::{DRIFT_MAX, RenewalOf};
use crate::sim::event::{Event, Waiter};
use crate::sim::mutant::Mutant;
use crate::sim::reads::ReadOrigin;
use crate::sim::swarm::Swarm;
use crate::sim::world::World;

/// The pause before a refused proposal is made again, in milliseconds; the product's.
const AGAIN_MS: u64 = 5;

/// One process's lessor.
pub(in crate::sim) struct LessorShell {
    lessor: Lessor,
    /// When it is called next.
    pub(in crate::sim) due_at: Option<u64>,
    /// Proposals without an outcome, by their numbers.
    proposals: BTreeMap<u64, Op>,
}

impl LessorShell {
    pub(in crate::sim) fn new(boot: u64, swarm: &Swarm) -> LessorShell {
        // The product's `Store::request_timeout`.
        let timeout_ms = 5_000 + 2 * swarm.election_ms;
        LessorShell {
            lessor: Lessor::new(boot, swarm.leases.extension_ms, timeout_ms),
            due_at: None,
            proposals: BTreeMap::new(),
        }
    }
}

impl World {
    /// A member's clock runs at this rate, in thousandths.
    fn rate(&self, id: MemberId) -> u64 {
        let mixed = (id.0 ^ self.seed.rotate_left(7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        1_000 - DRIFT_MAX + (mixed >> 33) % (2 * DRIFT_MAX + 1)
    }

    /// A planned time has come; the lessor may have named another one since.
    pub(in crate::sim) fn lessor_due(&mut self, id: MemberId) -> Result<(), String> {
        let now = self.clock.now_ms();
        let due = |life: &mut crate::sim::nodes::Life| life.lessor.due_at.take_if(|at| *at == now);
        match self.life(id).and_then(due) {
            Some(_) => self.lessor_takes(id, LessorEvent::Woken),
            None => Ok(()),
        }
    }

    /// Passes an event to a lessor, and carries out the effects.
    pub(in crate::sim) fn lessor_takes(
        &mut self,
        id: MemberId,
        event: LessorEvent,
    ) -> Result<(), String> {
        if self.swarm.leases.clients == 0 {
            return Ok(());
        }
        let (now, rate) = (self.clock.now_ms(), self.rate(id));
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        if let LessorEvent::Done(number) | LessorEvent::Failed(number) = &event {
            life.lessor.proposals.remove(number);
        }
        let soft_state = life.consensus.status().soft_state;
        let view = life.applier.view();
        let local = Millis(now * rate / 1_000);
        let lessor = &mut life.lessor.lessor;
        let effects = lessor.handle(local, soft_state, view, [event]);
        self.plan_lessor(id, effects.wake_at, rate);
        self.carry_out_leases(id, effects)
    }

    fn plan_lessor(&mut self, id: MemberId, at: Millis, rate: u64) {
        let now = self.clock.now_ms();
        let Some(life) = self.life(id) else {
            return;
        };
        let at_ms = (at.0 != u64::MAX).then(|| (at.0 * 1_000).div_ceil(rate).max(now + 1));
        let planned = std::mem::replace(&mut life.lessor.due_at, at_ms);
        if let Some(at_ms) = at_ms.filter(|_| at_ms != planned) {
            let boot = life.log.boot();
            self.clock.after(at_ms - now, Event::Lessor(id, boot));
        }
    }

    fn carry_out_leases(&mut self, id: MemberId, effects: LessorEffects) -> Result<(), String> {
        self.send(id, effects.send)?;
        for (number, outcome) in effects.answers {
            self.lessor_answers(id, number, outcome)?;
        }
        for (number, op) in effects.propose {
            if let Some(life) = self.life(id) {
                life.lessor.proposals.insert(number, op);
            }
            self.lessor_proposes(id, number)?;
        }
        match (effects.read, self.mutant) {
            (Some(number), Some(Mutant::RenewalUnconfirmed)) => {
                self.lessor_takes(id, LessorEvent::Done(number))
            }
            (Some(number), _) => {
                self.ask_to_read(id, ReadOrigin::Lessor(number));
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// Makes a proposal, or makes it again: it was refused, and is certainly not in the log.
    pub(in crate::sim) fn lessor_proposes(
        &mut self,
        id: MemberId,
        number: u64,
    ) -> Result<(), String> {
        let proposals = self.life(id).map(|life| &life.lessor.proposals);
        let Some(op) = proposals.and_then(|all| all.get(&number)).cloned() else {
            return Ok(());
        };
        if self.leases.still {
            return self.lessor_takes(id, LessorEvent::Failed(number));
        }
        let command = Command { op: Some(op) }.encode_to_vec().into();
        if let Some(proposal) = self.name_proposal(id) {
            self.waiting.insert(proposal, Waiter::Lessor(number));
            let input = Input::Propose {
                id: proposal,
                command,
            };
            self.input(id, input);
        }
        Ok(())
    }

    /// A proposal was refused: as in the product it is made again, also by a member that has lost
    /// its leadership meanwhile.
    pub(in crate::sim) fn lessor_refused(&mut self, id: MemberId, number: u64) {
        let boot = self.boot(id);
        self.clock
            .after(AGAIN_MS, Event::LessorAgain(id, boot, number));
    }

    fn lessor_answers(
        &mut self,
        id: MemberId,
        number: u64,
        outcome: LeaseOutcome,
    ) -> Result<(), String> {
        let renewal = (id, self.boot(id), number);
        match self.leases.renewals.remove(&renewal) {
            Some(RenewalOf::Holder(holder, operation)) => {
                self.renewal_ends(holder, operation, outcome)
            }
            Some(RenewalOf::Call(number)) => self.call_renewed(number, outcome),
            None => Ok(()),
        }
    }
}
