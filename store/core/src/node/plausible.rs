//! Messages that no member sends which keeps to Raft.
//!
//! raft-rs trusts its peers: a log position, a term or a membership that cannot be ends the process, or
//! makes it acknowledge what it does not have. Such a message is dropped here, as if it were lost.

use std::collections::BTreeSet;

use raft::eraftpb::{ConfState, Message, MessageType, SnapshotMetadata};

use super::Node;

/// A message of a term this much later than the own one is not believed: one near the last would end
/// all members for good.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// No log gets so long.
const INDEX_MAX: u64 = 1 << 62;

impl Node {
    /// Whether raft-rs can take the message.
    pub(super) fn is_plausible(&self, message: &Message) -> bool {
        let raft = &self.raw.raft;
        if raft.term.saturating_add(TERMS_AHEAD_MAX) < message.term {
            return false;
        }
        // Nothing here asks for a snapshot in that way.
        if INDEX_MAX <= message.index || message.request_snapshot != 0 {
            return false;
        }
        match message.msg_type {
            MessageType::MsgAppend => terms_rise(message),
            // An answer is about what this leader has sent.
            MessageType::MsgAppendResponse => {
                let last = raft.raft_log.last_index();
                message.index <= last && message.reject_hint <= last
            }
            MessageType::MsgSnapshot => {
                let meta = message.get_snapshot().get_metadata();
                (1..=message.term).contains(&meta.term) && can_be_restored(meta)
            }
            _ => true,
        }
    }
}

/// Whether the entries' terms can stand in one log, and in that message. raft-rs finds term 0 at every
/// index that it does not have: with that term an entry passes for one that is there.
fn terms_rise(message: &Message) -> bool {
    let mut term = message.log_term;
    if (message.index == 0) != (term == 0) {
        return false;
    }
    let mut rises = |next: u64| {
        let fits = 0 < next && term <= next;
        term = next;
        fits
    };
    message.entries.iter().all(|entry| rises(entry.term)) && term <= message.term
}

/// Whether raft-rs can make a membership of it. Members are added and removed one at a time here, so that
/// there is no joint one.
fn can_be_restored(meta: &SnapshotMetadata) -> bool {
    let conf: &ConfState = meta.get_conf_state();
    let mut seen = BTreeSet::from([0]);
    let mut all = conf.voters.iter().chain(&conf.learners);
    meta.index < INDEX_MAX
        && !conf.voters.is_empty()
        && conf.voters_outgoing.is_empty()
        && conf.learners_next.is_empty()
        && all.all(|id| seen.insert(*id))
}
