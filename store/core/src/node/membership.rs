//! Membership changes: one at a time, effective when their entry is committed.
//!
//! The entry has the change twice: as raft-rs's `ConfChangeV2`, which only the leader that appended
//! it reads, and as our own `MemberChange`, which every member applies.

use bytes::Bytes;
use keelson_proto::internal::{MemberChange, member_change};
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb;

use super::{Node, Output, Refusal, convert};
use crate::{ConfOutcome, MemberId, ProposalId, proposal};

/// The id in front of a payload, if there is one.
pub(super) fn split(framed: &Bytes) -> Option<(ProposalId, Bytes)> {
    proposal::decode(framed)
}

impl Node {
    pub(super) fn gather_membership(&mut self, id: ProposalId, change: Bytes, output: &mut Output) {
        if self.is_leader() {
            self.propose_membership(id, change, output);
        } else if self.raw.raft.leader_id == 0 {
            output.refused.push((id, Refusal::NoLeader));
        } else {
            self.forward(id, change, true, output);
        }
    }

    pub(super) fn propose_membership(
        &mut self,
        id: ProposalId,
        change: Bytes,
        output: &mut Output,
    ) {
        // Earlier requests of this step stay ahead of it.
        self.propose_gathered(output);
        // Before a majority has answered in this term, live and dead voters are indistinguishable.
        // Raft requires the same for single-member changes (Ongaro, raft-dev, 2015).
        let settled = self.raw.raft.commit_to_current_term();
        if !settled || self.raw.raft.has_pending_conf() {
            return self.refuse(id, Refusal::MembershipChangePending, output);
        }
        let decoded = MemberChange::decode(change.clone()).unwrap_or_default();
        if let Err(refusal) = self.check_change(&decoded) {
            return self.refuse(id, refusal, output);
        }
        let single = self.single_change(&decoded).unwrap_or_default();
        let mut entry = eraftpb::Entry::default();
        entry.entry_type = eraftpb::EntryType::EntryConfChangeV2;
        entry.data = encode_for_raft(single).into();
        entry.context = proposal::encode(id, &change);
        match self.propose(vec![entry]) {
            Ok(()) => self.note_pending(id),
            Err(refusal) => self.refuse(id, refusal, output),
        }
    }

    /// Applies a committed membership entry.
    pub(super) fn apply_membership(&mut self, entry: &eraftpb::Entry) -> ConfOutcome {
        let Some((id, change)) = split(&entry.context) else {
            // raft-rs leaves a joint configuration with an empty change.
            let left = self
                .raw
                .apply_conf_change(&eraftpb::ConfChangeV2::default());
            return self.outcome(ProposalId::default(), None, left.is_ok());
        };
        let change = MemberChange::decode(change).unwrap_or_default();
        let accepted = self.roster.validate(&change).is_ok()
            && match self.single_change(&change) {
                Some(single) => self.raw.apply_conf_change(&wrap(single)).is_ok(),
                None => self.is_update_of_member(&change),
            };
        if let (true, Some(op)) = (accepted, &change.op) {
            self.roster.change(op);
            if let member_change::Op::Remove(id) = op {
                self.health.remove(MemberId(*id));
            }
        }
        self.note_own_removal(&change, accepted);
        self.outcome(id, Some(change), accepted)
    }

    fn outcome(&self, id: ProposalId, change: Option<MemberChange>, accepted: bool) -> ConfOutcome {
        let conf_state = self.raw.raft.prs().conf().to_conf_state();
        let conf_state = convert::conf_state_to_ours(&conf_state);
        ConfOutcome {
            id,
            change,
            accepted,
            conf_state,
        }
    }

    /// The raft-rs change, or `None` if the current membership rules it out.
    fn single_change(&self, change: &MemberChange) -> Option<eraftpb::ConfChangeSingle> {
        use eraftpb::ConfChangeType::*;
        let progress = self.raw.raft.prs();
        let learners = progress.conf().learners();
        let present = |id: u64| progress.get(id).is_some();
        let (kind, id) = match change.op.as_ref()? {
            member_change::Op::Add(member) if member.id != 0 && !present(member.id) => {
                match member.is_learner {
                    true => (AddLearnerNode, member.id),
                    false => (AddNode, member.id),
                }
            }
            member_change::Op::Remove(id) if present(*id) => (RemoveNode, *id),
            member_change::Op::Promote(id) if learners.contains(id) => (AddNode, *id),
            _ => return None,
        };
        let mut single = eraftpb::ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = id;
        Some(single)
    }

    fn is_update_of_member(&self, change: &MemberChange) -> bool {
        match &change.op {
            Some(member_change::Op::Update(member)) => self.raw.raft.prs().get(member.id).is_some(),
            _ => false,
        }
    }

    fn note_own_removal(&mut self, change: &MemberChange, accepted: bool) {
        let Some(member_change::Op::Remove(id)) = change.op else {
            return;
        };
        if !accepted || MemberId(id) != self.config.member {
            return;
        }
        self.removed = true;
        if self.is_leader() {
            // raft-rs keeps a removed leader as leader, and panics once an append of its own
            // becomes durable, since it is not among the voters. The commit of the removal has been
            // sent.
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, MemberId::NONE.0);
        }
    }
}

fn wrap(single: eraftpb::ConfChangeSingle) -> eraftpb::ConfChangeV2 {
    let mut change = eraftpb::ConfChangeV2::default();
    change.set_changes(vec![single].into());
    change
}

/// Encodes a change as raft-rs parses it; raft-rs does not check the node id.
pub(super) fn encode_for_raft(single: eraftpb::ConfChangeSingle) -> Vec<u8> {
    let encoded = wrap(single).write_to_bytes();
    encoded.expect("a message without required fields always encodes")
}
