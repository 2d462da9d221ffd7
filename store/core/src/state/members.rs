//! Membership: consensus decides, this records.

use bytes::Bytes;
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::member_change::Op;
use keelson_proto::internal::{MemberAttributes, MemberChange};
use prost::Message;

use super::apply::Answer;
use super::error::Error;
use super::registry::{Registry, member_key};
use super::{Response, StateMachine};
use crate::engine::{Change, Table};
use crate::{Committed, ProposalId};

impl StateMachine {
    /// Records a membership entry.
    pub(super) fn apply_membership(&mut self, committed: &Committed) -> Answer {
        let Some(conf) = &committed.conf else {
            return (None, Ok(Response::Empty));
        };
        self.mark.conf_state = Some(conf.conf_state.clone());
        let id = (conf.id != ProposalId::default()).then_some(conf.id);
        let Some(change) = &conf.change else {
            return (id, Ok(Response::Empty));
        };
        if !conf.accepted {
            return (id, Err(self.refusal(change)));
        }
        if let Some(op) = &change.op {
            self.change_members(op);
        }
        (id, Ok(Response::Members(self.members())))
    }

    /// Why a change that was overtaken in the log does not take effect.
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
        // etcd keeps its members in the v2 tree; one removed is deleted there and noted elsewhere.
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
            self.changed.insert((Table::Members, key.clone()), gone);
            self.changed.insert((Table::Removed, key), banned);
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
            self.set_registry(registry);
            self.touch_tree();
        }
        Response::Empty
    }

    fn keep_member(&mut self, member: &Member) {
        let row = Change::Put(member.encode_to_vec().into());
        let key = (Table::Members, member_key(member.id));
        self.changed.insert(key, row);
    }
}
