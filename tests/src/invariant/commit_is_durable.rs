//! When an entry is committed, a majority has it on disk: no crash of any number of members can
//! lose it. Raft, section 5.3; thesis 10.2.1 (the leader counts itself only once it is durable).

use keelson_core::MemberId;
use keelson_proto::internal::ConfState;

use super::{Fact, Invariant, Ledger};

pub(super) struct CommitIsDurable;

impl Invariant for CommitIsDurable {
    fn name(&self) -> &'static str {
        "committed is durable on a quorum"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        let Fact::Committed { member, .. } = fact else {
            return Ok(());
        };
        let Some(index) = ledger.newly_committed else {
            return Ok(());
        };
        let known = ledger.committed(index).expect("newly committed");
        let holders = ledger.holders(index, known.line);
        // An entry right after a membership entry may have been counted under either membership.
        if ledger.memberships().any(|conf| is_quorum(conf, &holders)) {
            return Ok(());
        }
        Err(format!(
            "{member} commits {index}, which only {holders:?} have on disk"
        ))
    }
}

fn is_quorum(conf: &ConfState, holders: &[MemberId]) -> bool {
    majority(&conf.voters, holders) && majority(&conf.voters_outgoing, holders)
}

fn majority(voters: &[u64], holders: &[MemberId]) -> bool {
    let count = voters
        .iter()
        .filter(|voter| holders.contains(&MemberId(**voter)))
        .count();
    voters.is_empty() || voters.len() < count * 2
}
