//! The members of the cluster, for the validation of membership changes.
//!
//! Consensus and the state machine each keep a roster and change it by the same entries: the first
//! to decide, the second to record.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::MemberChange;
use keelson_proto::internal::member_change::Op;

/// The members at one index of the log, and the ids of removed ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roster {
    /// The members, by id.
    pub members: BTreeMap<u64, Member>,
    /// Ids that must never be added again.
    pub removed: BTreeSet<u64>,
}

/// Why a membership change does not fit the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterError {
    /// The change has no operation that this release supports.
    Unknown,
    /// No such member, or it was removed.
    NotFound,
    /// The member exists already.
    Exists,
    /// Another member has one of the peer URLs.
    PeerUrlExists,
    /// Only learners can be promoted.
    NotLearner,
}

impl Roster {
    /// Checks whether the change fits these members.
    ///
    /// # Errors
    /// The first reason against it, in the order of etcd's checks.
    pub fn validate(&self, change: &MemberChange) -> Result<(), RosterError> {
        let op = change.op.as_ref().ok_or(RosterError::Unknown)?;
        let (Op::Add(Member { id, .. })
        | Op::Update(Member { id, .. })
        | Op::Remove(id)
        | Op::Promote(id)) = op;
        if self.removed.contains(id) {
            return Err(RosterError::NotFound);
        }
        match (op, self.members.get(id)) {
            (Op::Add(_), Some(_)) => Err(RosterError::Exists),
            (Op::Update(_), None) => Err(RosterError::NotFound),
            (Op::Add(new) | Op::Update(new), _) if self.clashes(new) => {
                Err(RosterError::PeerUrlExists)
            }
            (Op::Add(_), None) => Ok(()),
            (_, None) => Err(RosterError::NotFound),
            (Op::Promote(_), Some(member)) if !member.is_learner => Err(RosterError::NotLearner),
            _ => Ok(()),
        }
    }

    /// Applies a valid change.
    pub fn change(&mut self, op: &Op) {
        match op {
            Op::Add(member) => {
                self.members.insert(member.id, member.clone());
            }
            Op::Remove(id) => {
                self.members.remove(id);
                self.removed.insert(*id);
            }
            Op::Update(update) => {
                if let Some(member) = self.members.get_mut(&update.id) {
                    member.peer_ur_ls.clone_from(&update.peer_ur_ls);
                }
            }
            Op::Promote(id) => {
                if let Some(member) = self.members.get_mut(id) {
                    member.is_learner = false;
                }
            }
        }
    }

    /// The number of learners. Their limit is the leader's alone: it is a flag, and members with
    /// different limits must apply the same changes.
    pub fn learners(&self) -> usize {
        let members = self.members.values();
        members.filter(|member| member.is_learner).count()
    }

    fn clashes(&self, new: &Member) -> bool {
        let others = self.members.values().filter(|member| member.id != new.id);
        let mut taken = others.flat_map(|member| &member.peer_ur_ls);
        taken.any(|url| new.peer_ur_ls.contains(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str, is_learner: bool) -> Member {
        Member {
            id,
            is_learner,
            peer_ur_ls: vec![url.to_owned()],
            ..Member::default()
        }
    }

    /// Members 1 and 2 are voters, 3 is a learner, 9 was removed.
    fn roster() -> Roster {
        let mut roster = Roster::default();
        for id in [1, 2, 9] {
            roster.change(&Op::Add(member(id, &format!("http://{id}:1"), false)));
        }
        roster.change(&Op::Remove(9));
        roster.change(&Op::Add(member(3, "http://3:1", true)));
        roster
    }

    #[track_caller]
    fn check(op: Op, expected: Result<(), RosterError>) {
        let change = MemberChange { op: Some(op) };
        assert_eq!(roster().validate(&change), expected);
    }

    #[test]
    fn ids_urls_and_learners_are_checked() {
        use RosterError::*;
        check(Op::Add(member(4, "http://4:1", false)), Ok(()));
        check(Op::Add(member(2, "http://4:1", false)), Err(Exists));
        check(Op::Add(member(9, "http://4:1", false)), Err(NotFound));
        check(Op::Add(member(4, "http://2:1", false)), Err(PeerUrlExists));
        check(Op::Add(member(4, "http://4:1", true)), Ok(()));
        check(Op::Update(member(1, "http://1:1", false)), Ok(()));
        check(
            Op::Update(member(1, "http://2:1", false)),
            Err(PeerUrlExists),
        );
        check(Op::Update(member(7, "http://7:1", false)), Err(NotFound));
        check(Op::Promote(3), Ok(()));
        check(Op::Promote(2), Err(NotLearner));
        check(Op::Promote(7), Err(NotFound));
        check(Op::Remove(3), Ok(()));
        check(Op::Remove(9), Err(NotFound));
        assert_eq!(roster().validate(&MemberChange { op: None }), Err(Unknown));
    }

    #[test]
    fn a_change_changes_what_it_names() {
        let mut roster = roster();
        roster.change(&Op::Promote(3));
        roster.change(&Op::Update(member(2, "http://2:2", true)));
        assert!(!roster.members[&3].is_learner);
        assert_eq!(roster.members[&2].peer_ur_ls, ["http://2:2"]);
        assert!(!roster.members[&2].is_learner);
        assert!(!roster.members.contains_key(&9));
    }
}
