//! A restart finds everything that was durable, then perhaps a part of what was being written, in
//! the order of the writes, and nothing else. Raft, figure 2, "Persistent state"; ALICE (OSDI '14)
//! shows how often logs violate this.

use keelson_core::HardState;

use super::ledger::Logs;
use super::{Fact, Invariant, Ledger};

pub(super) struct Recovery;

impl Invariant for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        let Fact::Recovered {
            member, restored, ..
        } = fact
        else {
            return Ok(());
        };
        let mut expected = restored.log_start.index.0;
        for entry in &restored.entries {
            expected += 1;
            if entry.index.0 != expected {
                return Err(format!(
                    "{member} came back with {} at {expected}",
                    entry.index
                ));
            }
        }
        let (Some(before), Some(now)) = (ledger.previous(), ledger.logs(*member)) else {
            return Ok(());
        };
        if !could_hold(before, restored.hard_state) {
            return Err(format!(
                "{member} had {:?} on disk and came back with {:?}",
                before.hard_state, restored.hard_state
            ));
        }
        if before.could_become(&now.memory) {
            return Ok(());
        }
        Err(format!(
            "{member} had entries {} to {} on disk and came back with {} to {}, or with others",
            before.durable.base + 1,
            before.durable.last(),
            now.memory.base + 1,
            now.memory.last()
        ))
    }
}

fn could_hold(before: &Logs, found: HardState) -> bool {
    let held = before.hard_state;
    held == found || before.pending_hard_states().any(|pending| pending == found)
}
