//! What consensus hands to the state machine: entries that no majority can take back.

use keelson_proto::internal;

use crate::{Entry, ProposalId, proposal};

/// One committed entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The entry, in index order without gaps.
    pub entry: Entry,
    /// For `Membership` entries: what consensus made of it.
    pub conf: Option<ConfOutcome>,
}

impl Committed {
    /// The request that the entry came from; `None` for the entries that leaders write for themselves.
    pub fn request(&self) -> Option<ProposalId> {
        match &self.conf {
            Some(conf) => Some(conf.id),
            None => proposal::decode(&self.entry.data).map(|(id, _)| id),
        }
    }
}

/// What became of a membership entry. Consensus decides, the state machine records.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfOutcome {
    /// Whose request it was; all zero when consensus itself wrote the entry, to leave a joint state.
    pub id: ProposalId,
    /// What was asked for; nothing when consensus itself wrote the entry.
    pub change: Option<internal::MemberChange>,
    /// Whether the change took effect. A change that was overtaken (the member is there already, was
    /// removed, is no learner) is in the log all the same and changes nothing.
    pub accepted: bool,
    /// The membership after the entry.
    pub conf_state: internal::ConfState,
}
