//! A member votes for one candidate in a term, across all of its incarnations. Raft, section 5.2; a
//! vote that is not durable before it is sent violates this after a crash.

use std::collections::BTreeMap;

use keelson_core::MemberId;

use super::{Fact, Invariant, Ledger};

/// raft-rs's numbers of the two messages that carry a vote.
const REQUEST_VOTE: u32 = 5;
const REQUEST_VOTE_RESPONSE: u32 = 6;

#[derive(Default)]
pub(super) struct VoteOnce {
    votes: BTreeMap<(MemberId, u64), u64>,
}

impl Invariant for VoteOnce {
    fn name(&self) -> &'static str {
        "one vote a term"
    }

    fn observe(&mut self, fact: &Fact<'_>, _ledger: &Ledger) -> Result<(), String> {
        let Fact::Sent { member, message } = fact else {
            return Ok(());
        };
        let candidate = match (message.kind, message.reject) {
            // A candidate has voted for itself.
            (REQUEST_VOTE, _) => member.0,
            (REQUEST_VOTE_RESPONSE, false) => message.to,
            _ => return Ok(()),
        };
        let vote = *self
            .votes
            .entry((*member, message.term))
            .or_insert(candidate);
        if vote == candidate {
            return Ok(());
        }
        Err(format!(
            "{member} voted for {vote:x} and for {candidate:x} in term {}",
            message.term
        ))
    }
}
