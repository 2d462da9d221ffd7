//! The end of nodes: what `store/src/tree/expirer.rs` does, on the virtual clock. A leader proposes
//! what is due, and spares for a grace whatever was set before its time.

use keelson_core::MemberId;
use keelson_core::Term;
use keelson_core::node::{Input, Role};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{Command, TreeExpire};
use prost::Message;

use super::MS_NS;
use super::log::Reign;
use crate::sim::mutant::Mutant;
use crate::sim::nodes::Asker;
use crate::sim::world::{Event, Waiter, World};

/// How late an expiry may be found.
const TICK_MS: u64 = 500;
/// Between two proposals.
const PAUSE_MS: u64 = 50;
/// A proposal of which nothing is heard is given up after that, as the product does.
const PATIENCE_MS: u64 = 5_000;

/// One process's expirer.
#[derive(Default)]
pub(in crate::sim) struct Expirer {
    /// Whether its next look is planned.
    planned: bool,
    /// The term in which it leads, and once everything of earlier terms is applied, its reign.
    term: Option<Term>,
    reign: Option<Reign>,
    /// Since when it waits for an answer of consensus.
    waits_from: Option<u64>,
}

impl World {
    /// A member's standing has changed.
    pub(in crate::sim) fn wake_expirer(&mut self, id: MemberId) {
        if self.swarm.tree_clients == 0 {
            return;
        }
        let Some(life) = self.life(id) else {
            return;
        };
        let leads = life.consensus.status().standing.role == Role::Leader;
        if leads && !std::mem::replace(&mut life.expirer.planned, true) {
            let boot = life.log.boot();
            self.clock.after(0, Event::Expirer(id, boot));
        }
    }

    /// The expirer looks what there is to do, and when to look again.
    pub(in crate::sim) fn expirer_looks(&mut self, id: MemberId) {
        let now = self.clock.now_ms();
        let Some(life) = self.life(id) else {
            return;
        };
        let standing = life.consensus.status().standing;
        if standing.role != Role::Leader {
            life.expirer = Expirer::default();
            return;
        }
        let expirer = &mut life.expirer;
        if expirer.term != Some(standing.term) {
            *expirer = Expirer {
                planned: true,
                term: Some(standing.term),
                ..Expirer::default()
            };
        }
        let waits = expirer.waits_from;
        let wait = match (waits.filter(|from| now < from + PATIENCE_MS), expirer.reign) {
            (Some(_), _) => PAUSE_MS,
            (None, None) => {
                expirer.waits_from = Some(now);
                self.ask_to_read(id, Asker::Expirer(standing.term));
                PAUSE_MS
            }
            (None, Some(reign)) => self.expire(id, standing.term, reign),
        };
        let boot = self.boot(id);
        self.clock.after(wait, Event::Expirer(id, boot));
    }

    /// Everything of earlier terms is applied: the reign begins.
    pub(in crate::sim) fn reign_begins(&mut self, id: MemberId, term: Term) {
        let (now, grace) = (self.clock.now_ms(), self.swarm.ttl_grace_ms);
        let Some(life) = self.life(id) else {
            return;
        };
        // An answer to a question that was given up long ago: the reign has begun.
        if life.expirer.term == Some(term) && life.expirer.reign.is_some() {
            return;
        }
        let index = match (life.machine(), life.expirer.term == Some(term)) {
            (Some(machine), true) => machine.view().tree_index(),
            _ => return,
        };
        let reign = Reign {
            began_ms: now,
            index,
        };
        (life.expirer.reign, life.expirer.waits_from) = (Some(reign), None);
        self.tree.log.begins(term, reign, grace);
    }

    /// Proposes the end of what is due. Gives the time until the next look.
    fn expire(&mut self, id: MemberId, term: Term, reign: Reign) -> u64 {
        let (now, time_ns) = (self.clock.now_ms(), self.clock_ns(id));
        let grace = match self.mutant {
            Some(Mutant::GraceForgotten) => 0,
            _ => self.swarm.ttl_grace_ms,
        };
        let spared_index = match now < reign.began_ms + grace {
            true => reign.index,
            false => 0,
        };
        let machine = self.life(id).and_then(|life| life.machine());
        let due = machine.and_then(|machine| machine.view().tree_next_expiry(spared_index));
        let Some(ahead_ns) = due.map(|due| due.saturating_sub(time_ns)) else {
            return TICK_MS;
        };
        if 0 < ahead_ns {
            let ahead_ms = (ahead_ns / MS_NS).unsigned_abs();
            return ahead_ms.clamp(PAUSE_MS, TICK_MS);
        }
        if self.tree.still {
            return TICK_MS;
        }
        let request = TreeExpire {
            time_ns,
            spared_index,
            term: term.0,
        };
        let op = Some(Op::TreeExpire(request));
        let command = Command { op }.encode_to_vec().into();
        if let Some(proposal) = self.name_proposal(id) {
            self.tree.log.proposes(proposal, now);
            self.waiting.insert(proposal, Waiter::Expirer);
            self.input(
                id,
                Input::Propose {
                    id: proposal,
                    command,
                },
            );
            if let Some(life) = self.life(id) {
                life.expirer.waits_from = Some(now);
            }
        }
        PAUSE_MS
    }

    /// A proposal was applied, or refused.
    pub(in crate::sim) fn expirer_hears(&mut self, id: MemberId) {
        if let Some(life) = self.life(id) {
            life.expirer.waits_from = None;
        }
    }
}
