//! A request is in the committed log at most once, in spite of duplicated messages, retries and
//! restarts. etcd applied requests twice before etcd#4476's request ids.

use std::collections::HashMap;

use keelson_core::{EntryKind, ProposalId, proposal};

use super::{Fact, Invariant, Ledger};

#[derive(Default)]
pub(super) struct AppliedOnce {
    /// Proposal -> its index. Never iterated.
    seen: HashMap<ProposalId, u64>,
}

impl Invariant for AppliedOnce {
    fn name(&self) -> &'static str {
        "a request is applied at most once"
    }

    fn observe(&mut self, fact: &Fact<'_>, _ledger: &Ledger) -> Result<(), String> {
        let Fact::Committed { committed, .. } = fact else {
            return Ok(());
        };
        let entry = &committed.entry;
        let framed = match entry.kind {
            EntryKind::Command => &entry.data,
            EntryKind::Membership => &entry.context,
        };
        let Some((id, _)) = proposal::decode(framed) else {
            return Ok(());
        };
        let first = *self.seen.entry(id).or_insert(entry.index.0);
        if first == entry.index.0 {
            return Ok(());
        }
        Err(format!("{id:?} is at {first} and again at {}", entry.index))
    }
}
