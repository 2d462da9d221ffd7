//! Membership: consensus decides a change, the state machine records it.

use bytes::Bytes;
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::member_change::Op;
use keelson_proto::internal::{MemberAttributes, MemberChange};
use prost::Message;

use super::apply::Answer;
use super::error::{Error, StateError};
use super::registry::{Registry, command_version_key, member_key};
use super::{Response, StateMachine};
use crate::engine::{Change, Table};
use crate::{Committed, ProposalId};

impl StateMachine {
    /// Records a membership entry.
    pub(super) fn apply_membership(&mut self, committed: &Committed) -> Result<Answer, StateError> {
        let Some(conf) = &committed.conf else {
            return Ok((None, Ok(Response::Empty)));
        };
        if conf
            .change
            .as_ref()
            .is_some_and(|change| change.op.is_none())
        {
            let index = committed.entry.index.0;
            return Err(StateError::NotUnderstood { index });
        }
        self.mark.conf_state = Some(conf.conf_state.clone());
        let id = (conf.id != ProposalId::default()).then_some(conf.id);
        let Some(change) = &conf.change else {
            return Ok((id, Ok(Response::Empty)));
        };
        if !conf.accepted {
            return Ok((id, Err(self.refusal(change))));
        }
        if let Some(op) = &change.op {
            self.change_members(op);
        }
        Ok((id, Ok(Response::Members(self.members()))))
    }

    /// Why a change that an earlier entry invalidated does not take effect.
    fn refusal(&self, change: &MemberChange) -> Error {
        match self.registry.roster.validate(change) {
            Err(error) => error.into(),
            Ok(()) if matches!(change.op, Some(Op::Add(_))) => Error::MemberExist,
            Ok(()) => Error::MemberNotFound,
        }
    }

    fn members(&self) -> Vec<Member> {
        self.registry.roster.members.values().cloned().collect()
    }

    fn change_members(&mut self, op: &Op) {
        // etcd keeps members in the v2 tree: a removed one is deleted there and recorded elsewhere.
        let changes = if matches!(op, Op::Remove(_)) { 2 } else { 1 };
        (0..changes).for_each(|_| self.touch_tree());
        let mut registry = Registry::clone(&self.registry);
        registry.roster.change(op);
        let (Op::Add(Member { id, .. })
        | Op::Update(Member { id, .. })
        | Op::Remove(id)
        | Op::Promote(id)) = op;
        if matches!(op, Op::Remove(_)) {
            let key = member_key(*id);
            let (gone, banned) = (Change::Delete, Change::Put(Bytes::new()));
            self.change(Table::Members, key.clone(), gone);
            self.change(Table::Removed, key, banned);
            self.note_command_version(&mut registry, *id, 0);
            self.end_downgrade(&mut registry);
        } else if let Some(member) = registry.roster.members.get(id) {
            self.keep_member(member);
        }
        self.set_registry(registry);
    }

    /// Records a member's own name and URLs; a removed member has no attributes.
    pub(super) fn apply_attributes(&mut self, attributes: MemberAttributes) -> Response {
        let mut registry = Registry::clone(&self.registry);
        if let Some(member) = registry.roster.members.get_mut(&attributes.member_id) {
            member.name = attributes.name;
            member.client_ur_ls = attributes.client_urls;
            self.keep_member(member);
            let (id, version) = (attributes.member_id, attributes.command_version);
            self.note_command_version(&mut registry, id, version);
            self.end_downgrade(&mut registry);
            self.set_registry(registry);
            self.touch_tree();
        }
        Response::Empty
    }

    /// Records a member's command version; the lowest one needs no row.
    fn note_command_version(&mut self, registry: &mut Registry, member: u64, version: u32) {
        let key = command_version_key(member);
        if 1 < version {
            registry.command_versions.insert(member, version);
            let row = Bytes::copy_from_slice(&version.to_be_bytes());
            self.change(Table::Meta, key, Change::Put(row));
        } else if registry.command_versions.remove(&member).is_some() {
            self.change(Table::Meta, key, Change::Delete);
        }
    }

    fn keep_member(&mut self, member: &Member) {
        let row = Change::Put(member.encode_to_vec().into());
        self.change(Table::Members, member_key(member.id), row);
    }
}
