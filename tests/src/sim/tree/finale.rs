//! The second phase for the v2 tree.

use keelson_core::MemberId;
use keelson_core::node::Role;

use super::MS_NS;
use crate::check::tree::{register, replay, text};
use crate::history::Outcome;
use crate::sim::world::World;

/// The time after its TTL, and after the grace, in which a node may still exist without faults.
const LATE_MS: u64 = 1_500;

impl World {
    /// All requests that v2 clients have sent since `first` must be answered.
    pub(in crate::sim) fn tree_was_answered(&self, first: usize) -> Result<(), String> {
        let mut asked = self.tree.history.operations[first..].iter();
        match asked.find(|operation| !matches!(operation.outcome, Outcome::Ok(_))) {
            None => Ok(()),
            Some(operation) => {
                let (text, outcome) = (text(&operation.request), &operation.outcome);
                Err(format!(
                    "liveness: not answered in calm: {text}: {outcome:?}"
                ))
            }
        }
    }

    /// After some time with a leader, no node exists whose TTL ended long ago.
    pub(in crate::sim) fn nothing_is_overdue(&self) -> Result<(), String> {
        if self.swarm.tree_clients == 0 {
            return Ok(());
        }
        let leads = |id: &MemberId| {
            let life = self.members.get(id).and_then(|member| member.life.as_ref());
            life.is_some_and(|life| life.consensus.status().soft_state.role == Role::Leader)
        };
        let leader = self.running().into_iter().find(leads);
        let now_ns = leader.map_or(0, |id| self.clock_ns(id));
        let slack_ms = self.swarm.ttl_grace_ms + LATE_MS;
        let slack_ns = i64::try_from(slack_ms).expect("a short time") * MS_NS;
        let model = &self.tree.log.model;
        match model.model().next_expiry(0, model.index()) {
            Some(due) if due + slack_ns < now_ns => Err(format!(
                "liveness: a node ended at {due} is there at {now_ns}"
            )),
            _ => Ok(()),
        }
    }

    /// Every member's tree is the agreed one, and so are all answers to clients.
    pub(in crate::sim) fn check_trees(&mut self) -> Result<(), String> {
        for id in self.running() {
            self.check_tree(id, self.clock_ns(id))?;
        }
        for number in 0..self.tree.watchers.len() {
            self.watcher_reads(number, usize::MAX)?;
        }
        replay::check(&self.tree.history, &self.tree.log.agreed)?;
        let searched = register::check(&self.tree.history);
        searched.map_err(|problem| format!("v2 search: {problem}"))?;
        Ok(())
    }
}
