//! A linearizable read waits for everything that was committed when it was called. Raft, section 8
//! (thesis 6.4); etcd#20418 is a read index that was older than its request.

use super::{Fact, Invariant, Ledger};

pub(super) struct ReadIndex;

impl Invariant for ReadIndex {
    fn name(&self) -> &'static str {
        "read index"
    }

    fn observe(&mut self, fact: &Fact<'_>, _ledger: &Ledger) -> Result<(), String> {
        let Fact::ReadReady {
            member,
            index,
            committed_at_call,
        } = fact
        else {
            return Ok(());
        };
        if *committed_at_call <= *index {
            return Ok(());
        }
        Err(format!(
            "{member} may read at {index}; {committed_at_call} was committed when the read was \
             called"
        ))
    }
}
