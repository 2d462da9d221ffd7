//! Validation of messages from peers.
//!
//! raft-rs trusts its peers: an impossible index, term or membership ends the process, or makes it
//! acknowledge entries that it does not have. Such a message is dropped here, as if it were lost.

use std::collections::BTreeSet;

use raft::eraftpb::{ConfState, Message, MessageType, SnapshotMetadata};

use super::Node;

/// A message whose term exceeds the current one by more is dropped: a term near the maximum would
/// leave no room for elections.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// A log index that no cluster reaches.
const INDEX_MAX: u64 = 1 << 62;

impl Node {
    /// Whether the message is safe for raft-rs.
    pub(super) fn is_plausible(&self, message: &Message) -> bool {
        let raft = &self.raw.raft;
        if raft.term.saturating_add(TERMS_AHEAD_MAX) < message.term {
            return false;
        }
        // Consensus itself takes the offers with `request_snapshot`.
        if INDEX_MAX <= message.index || message.request_snapshot != 0 {
            return false;
        }
        match message.msg_type {
            MessageType::MsgAppend => terms_rise(message),
            // An answer refers to entries that this leader has sent.
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

/// Whether the entries' terms are possible in one log and in this message. raft-rs reads term 0 at
/// every index that it does not have, so an entry with term 0 would match a missing one.
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

/// Whether raft-rs can restore the membership. Members are added and removed one at a time, so
/// there is never a joint configuration.
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
