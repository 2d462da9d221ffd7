//! The core's expirer on the virtual clock.

use keelson_core::member::{Expirer, ExpirerEffects, ExpirerEvent};
use keelson_core::node::{Input, Role};
use keelson_core::{MemberId, Millis, Term};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{Command, TreeExpire};
use prost::Message;

use super::log::Tenure;
use crate::sim::event::{Event, Waiter};
use crate::sim::mutant::Mutant;
use crate::sim::reads::ReadOrigin;
use crate::sim::swarm::Swarm;
use crate::sim::world::World;

/// One process's expirer.
pub(in crate::sim) struct ExpirerShell {
    expirer: Expirer,
    /// When it is called next.
    pub(in crate::sim) due_at: Option<u64>,
}

impl ExpirerShell {
    pub(in crate::sim) fn new(swarm: &Swarm, mutant: Option<Mutant>) -> ExpirerShell {
        let grace_ms = match mutant {
            Some(Mutant::GraceForgotten) => 0,
            _ => swarm.ttl_grace_ms,
        };
        // The product's `Store::request_timeout`.
        let timeout_ms = 5_000 + 2 * swarm.election_ms;
        ExpirerShell {
            expirer: Expirer::new(grace_ms, timeout_ms),
            due_at: None,
        }
    }
}

impl World {
    /// A planned time has come; the expirer may have named another one since.
    pub(in crate::sim) fn expirer_due(&mut self, id: MemberId) {
        let now = self.clock.now_ms();
        let due = |life: &mut crate::sim::nodes::Life| life.expirer.due_at.take_if(|at| *at == now);
        if self.life(id).and_then(due).is_some() {
            self.expirer_takes(id, ExpirerEvent::Woken);
        }
    }

    /// Passes an event to an expirer, and carries out the effects.
    pub(in crate::sim) fn expirer_takes(&mut self, id: MemberId, event: ExpirerEvent) {
        let (now, clock_ns) = (self.clock.now_ms(), self.clock_ns(id));
        if self.swarm.tree_clients == 0 {
            return;
        }
        let Some(life) = self.life(id) else {
            return;
        };
        let soft_state = life.consensus.status().soft_state;
        let view = life.applier.view();
        let expirer = &mut life.expirer.expirer;
        let effects = expirer.handle(Millis(now), clock_ns, soft_state, view, event);
        self.plan_expirer(id, effects.wake_at.0);
        self.carry_out_expiry(id, soft_state.term, effects);
    }

    fn plan_expirer(&mut self, id: MemberId, at_ms: u64) {
        let now = self.clock.now_ms();
        let Some(life) = self.life(id) else {
            return;
        };
        let at_ms = (at_ms != u64::MAX).then_some(at_ms);
        let planned = std::mem::replace(&mut life.expirer.due_at, at_ms);
        if let Some(at_ms) = at_ms.filter(|_| at_ms != planned) {
            let boot = life.log.boot();
            let wait = at_ms.saturating_sub(now);
            self.clock.after(wait, Event::Expirer(id, boot));
        }
    }

    fn carry_out_expiry(&mut self, id: MemberId, term: Term, effects: ExpirerEffects) {
        let number = effects.number;
        if effects.read_index {
            match self.mutant {
                Some(Mutant::GraceAtElection) => self.expirer_may_begin(id, term, number),
                _ => self.ask_to_read(id, ReadOrigin::Expirer(term, number)),
            }
        }
        if let Some(request) = effects.propose {
            self.propose_expiry(id, number, request);
        }
    }

    fn propose_expiry(&mut self, id: MemberId, number: u64, request: TreeExpire) {
        if self.tree.still {
            return self.expirer_takes(id, ExpirerEvent::Failed(number));
        }
        let now = self.clock.now_ms();
        let op = Some(Op::TreeExpire(request));
        let command = Command { op }.encode_to_vec().into();
        if let Some(proposal) = self.name_proposal(id) {
            self.tree.log.proposes(proposal, now);
            self.waiting.insert(proposal, Waiter::Expirer(number));
            let input = Input::Propose {
                id: proposal,
                command,
            };
            self.input(id, input);
        }
    }

    /// Everything of earlier terms is applied.
    pub(in crate::sim) fn expirer_may_begin(&mut self, id: MemberId, term: Term, number: u64) {
        let (now, grace) = (self.clock.now_ms(), self.swarm.ttl_grace_ms);
        let Some(life) = self.life(id) else {
            return;
        };
        let soft_state = life.consensus.status().soft_state;
        if let Some(machine) = life.machine()
            && (soft_state.role, soft_state.term) == (Role::Leader, term)
        {
            let tenure = Tenure {
                began_ms: now,
                index: machine.view().tree_index(),
            };
            self.tree.log.begins(term, tenure, grace);
        }
        self.expirer_takes(id, ExpirerEvent::Done(number));
    }
}
