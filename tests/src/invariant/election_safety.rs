//! At most one leader is elected in a term. Raft, figure 3, "Election Safety"; section 5.2.

use std::collections::BTreeMap;

use keelson_core::MemberId;
use keelson_core::node::Role;

use super::{Fact, Invariant, Ledger};

#[derive(Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<u64, MemberId>,
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn observe(&mut self, fact: &Fact<'_>, _ledger: &Ledger) -> Result<(), String> {
        let Fact::Stood { member, soft_state } = fact else {
            return Ok(());
        };
        if soft_state.role != Role::Leader {
            return Ok(());
        }
        let leader = *self.leaders.entry(soft_state.term.0).or_insert(*member);
        if leader == *member {
            return Ok(());
        }
        Err(format!(
            "{leader} and {member} lead in term {}",
            soft_state.term
        ))
    }
}
