//! Membership: consensus decides, this records.

use std::collections::BTreeSet;

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

/// Whether a change makes sense to a cluster of these members, in the order in which etcd asks.
pub fn validate(
    members: &[Member],
    removed: &BTreeSet<u64>,
    change: &MemberChange,
    max_learners: usize,
) -> Result<(), Error> {
    let op = change.op.as_ref().ok_or(Error::UnknownCommand)?;
    let (Op::Add(Member { id, .. })
    | Op::Update(Member { id, .. })
    | Op::Remove(id)
    | Op::Promote(id)) = op;
    if removed.contains(id) {
        return Err(Error::MemberNotFound);
    }
    let present = members.iter().find(|member| member.id == *id);
    let clashes = |new: &Member| {
        let others = members.iter().filter(|member| member.id != new.id);
        let mut taken = others.flat_map(|member| &member.peer_ur_ls);
        taken.any(|url| new.peer_ur_ls.contains(url))
    };
    match (op, present) {
        (Op::Add(_), Some(_)) => Err(Error::MemberExist),
        (Op::Update(_), None) => Err(Error::MemberNotFound),
        (Op::Add(new) | Op::Update(new), _) if clashes(new) => Err(Error::PeerUrlExist),
        (Op::Add(new), None) => {
            let learners = members.iter().filter(|member| member.is_learner).count();
            match new.is_learner && learners >= max_learners {
                true => Err(Error::TooManyLearners),
                false => Ok(()),
            }
        }
        (_, None) => Err(Error::MemberNotFound),
        (Op::Promote(_), Some(member)) if !member.is_learner => Err(Error::MemberNotLearner),
        _ => Ok(()),
    }
}

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
        let (members, removed) = (self.members(), &self.registry.removed);
        match validate(&members, removed, change, usize::MAX) {
            Err(error) => error,
            Ok(()) if matches!(change.op, Some(Op::Add(_))) => Error::MemberExist,
            Ok(()) => Error::MemberNotFound,
        }
    }

    fn members(&self) -> Vec<Member> {
        self.registry.members.values().cloned().collect()
    }

    fn change_members(&mut self, op: &Op) {
        // etcd keeps its members in the v2 tree; one removed is deleted there and noted elsewhere.
        let changes = if matches!(op, Op::Remove(_)) { 2 } else { 1 };
        (0..changes).for_each(|_| self.touch_tree());
        let mut registry = Registry::clone(&self.registry);
        match op {
            Op::Add(member) => {
                registry.members.insert(member.id, member.clone());
                self.keep_member(member);
            }
            Op::Remove(id) => {
                registry.members.remove(id);
                registry.removed.insert(*id);
                let key = member_key(*id);
                let (gone, banned) = (Change::Delete, Change::Put(Bytes::new()));
                self.changed.insert((Table::Members, key.clone()), gone);
                self.changed.insert((Table::Removed, key), banned);
            }
            Op::Update(update) => {
                if let Some(member) = registry.members.get_mut(&update.id) {
                    member.peer_ur_ls = update.peer_ur_ls.clone();
                    self.keep_member(member);
                }
            }
            Op::Promote(id) => {
                if let Some(member) = registry.members.get_mut(id) {
                    member.is_learner = false;
                    self.keep_member(member);
                }
            }
        }
        self.set_registry(registry);
    }

    /// Records what a member says of itself; a removed member has nothing to say.
    pub(super) fn apply_attributes(&mut self, attributes: MemberAttributes) -> Response {
        let mut registry = Registry::clone(&self.registry);
        if let Some(member) = registry.members.get_mut(&attributes.member_id) {
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
