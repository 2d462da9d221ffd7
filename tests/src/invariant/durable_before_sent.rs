//! A member promises only what survives a crash: its term, its vote, and the entries that it
//! acknowledges are durable before the message is sent. Raft, figure 2, "Persistent state (updated
//! on stable storage before responding to RPCs)".

use super::{Fact, Invariant, Ledger};

/// raft-rs's numbers of the messages that contain a promise.
const APPEND_RESPONSE: u32 = 4;
const REQUEST_VOTE: u32 = 5;
const REQUEST_VOTE_RESPONSE: u32 = 6;
const HEARTBEAT_RESPONSE: u32 = 9;

pub(super) struct DurableBeforeSent;

impl Invariant for DurableBeforeSent {
    fn name(&self) -> &'static str {
        "durable before sent"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        let Fact::Sent { member, message } = fact else {
            return Ok(());
        };
        let Some(logs) = ledger.logs(*member) else {
            return Ok(());
        };
        let durable = logs.hard_state;
        let promises_term = matches!(
            message.kind,
            APPEND_RESPONSE | REQUEST_VOTE | REQUEST_VOTE_RESPONSE | HEARTBEAT_RESPONSE
        );
        if promises_term && durable.term.0 < message.term {
            return Err(format!(
                "{member} has term {} on disk and sends {message:?}",
                durable.term
            ));
        }
        // A message of an earlier term may be about entries that a later leader has replaced since:
        // had they been committed, that leader would have had them.
        let current = durable.term.0 <= message.term;
        let acknowledges = message.kind == APPEND_RESPONSE && !message.reject && current;
        if acknowledges && logs.durable.last() < message.index {
            let last = logs.durable.last();
            return Err(format!(
                "{member} has only {last} on disk and sends {message:?}"
            ));
        }
        let candidate = match (message.kind, message.reject) {
            (REQUEST_VOTE, _) => member.0,
            (REQUEST_VOTE_RESPONSE, false) => message.to,
            _ => return Ok(()),
        };
        if durable.term.0 == message.term && durable.vote.0 != candidate {
            let vote = durable.vote;
            return Err(format!(
                "{member} has a vote for {vote} on disk and sends {message:?}"
            ));
        }
        Ok(())
    }
}
