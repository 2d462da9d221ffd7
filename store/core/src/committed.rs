//! Committed entries, as consensus delivers them to the state machine.

use keelson_proto::internal;

use crate::{Entry, ProposalId, proposal};

/// One committed entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The entry, in index order without gaps.
    pub entry: Entry,
    /// The outcome of a `Membership` entry.
    pub conf: Option<ConfOutcome>,
}

impl Committed {
    /// The id of the request behind the entry; `None` for entries that a leader appends by itself.
    pub fn request(&self) -> Option<ProposalId> {
        match &self.conf {
            Some(conf) => Some(conf.id),
            None => proposal::decode(&self.entry.data).map(|(id, _)| id),
        }
    }
}

/// The outcome of a membership entry. Consensus decides it, the state machine records it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfOutcome {
    /// The id of the request; all zero if raft-rs appended the entry, to leave a joint
    /// configuration.
    pub id: ProposalId,
    /// The requested change; `None` if raft-rs appended the entry.
    pub change: Option<internal::MemberChange>,
    /// Whether the change took effect. A change that an earlier entry invalidated (the member
    /// exists, was removed, or is not a learner) stays in the log and changes nothing.
    pub accepted: bool,
    /// The membership after the entry.
    pub conf_state: internal::ConfState,
}
