//! Every later leader has all entries that were committed in earlier terms. Raft, figure 3, "Leader
//! Completeness"; section 5.4. The term in which an entry was committed counts, not its own: a late
//! leader of a term in between may lack it, and will commit nothing. With log matching, checking
//! the last such entry is enough.

use keelson_core::node::Role;

use super::{Fact, Invariant, Ledger};

pub(super) struct LeaderCompleteness;

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        let Fact::Stood { member, soft_state } = fact else {
            return Ok(());
        };
        let Some(logs) = ledger
            .logs(*member)
            .filter(|_| soft_state.role == Role::Leader)
        else {
            return Ok(());
        };
        let index = ledger.last_committed_before(soft_state.term.0);
        let Some(last) = ledger.committed(index).filter(|_| logs.memory.base < index) else {
            return Ok(());
        };
        match logs.memory.at(index) {
            Some(line) if line == last.line => Ok(()),
            held => Err(format!(
                "{member} leads in term {} and holds {held:?} at {index}, where {:?} was committed",
                soft_state.term, last.line
            )),
        }
    }
}
