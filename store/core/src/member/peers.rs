//! The other members: whose messages are accepted, and which links exist.
//!
//! The applied state decides. A lagging member may be contacted by one that was added since. So
//! members of the applied state may report others, which count until the log has caught up. A
//! removed id never becomes a member again.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::etcdserverpb::Member;

use crate::{MemberId, Millis, Roster};

/// The maximum number of reported members: far more than a cluster has.
const REPORTED_MAX: usize = 64;

/// The minimum time between two requests for the members, in milliseconds.
const REQUEST_INTERVAL_MS: u64 = 1_000;

/// The membership of an id, as far as this member has applied the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is a member of the cluster.
    Member,
    /// It was removed permanently.
    Removed,
    /// It is not among the members.
    Unknown,
}

/// The other members, each with its address `A`.
#[derive(Debug)]
pub struct Peers<A> {
    member: MemberId,
    /// The members of the applied state.
    applied: BTreeMap<MemberId, A>,
    removed: BTreeSet<u64>,
    /// Members that the applied ones report, and that this member has not applied yet.
    reported: BTreeMap<MemberId, A>,
    requested_at: Option<Millis>,
}

impl<A: PartialEq> Peers<A> {
    /// An empty set of peers of this member.
    pub fn new(member: MemberId) -> Peers<A> {
        Peers {
            member,
            applied: BTreeMap::new(),
            removed: BTreeSet::new(),
            reported: BTreeMap::new(),
            requested_at: None,
        }
    }

    /// Replaces the members of the applied state.
    pub fn apply(&mut self, roster: &Roster, address_of: impl Fn(&Member) -> A) {
        let others = roster.members.values();
        let others = others.filter(|member| member.id != self.member.0);
        self.applied = others
            .map(|member| (MemberId(member.id), address_of(member)))
            .collect();
        self.removed.clone_from(&roster.removed);
        let (applied, removed) = (&self.applied, &self.removed);
        self.reported
            .retain(|id, _| !applied.contains_key(id) && !removed.contains(&id.0));
    }

    /// Replaces the reported members. Returns whether the links must be updated. An empty report
    /// means that no member answered, and is ignored.
    pub fn report(&mut self, members: &[Member], address_of: impl Fn(&Member) -> A) -> bool {
        if members.is_empty() {
            return false;
        }
        let strange = |member: &&Member| {
            let id = MemberId(member.id);
            id != self.member && self.applied_of(id) == Membership::Unknown
        };
        let found = members.iter().filter(strange).take(REPORTED_MAX);
        let reported: BTreeMap<_, _> = found
            .map(|member| (MemberId(member.id), address_of(member)))
            .collect();
        let changed = reported != self.reported;
        self.reported = reported;
        changed
    }

    /// The membership of an id. Called for every envelope.
    pub fn of(&self, member: MemberId) -> Membership {
        match self.reported.contains_key(&member) {
            true => Membership::Member,
            false => self.applied_of(member),
        }
    }

    fn applied_of(&self, member: MemberId) -> Membership {
        if self.applied.contains_key(&member) {
            Membership::Member
        } else if self.removed.contains(&member.0) {
            Membership::Removed
        } else {
            Membership::Unknown
        }
    }

    /// A peer's address; `None` if there is no such peer.
    pub fn address(&self, member: MemberId) -> Option<&A> {
        let applied = self.applied.get(&member);
        applied.or_else(|| self.reported.get(&member))
    }

    /// Every peer, those of the applied state first.
    pub fn all(&self) -> impl Iterator<Item = (MemberId, &A)> {
        let all = self.applied.iter().chain(&self.reported);
        all.map(|(id, address)| (*id, address))
    }

    /// An unknown member has sent a message. Returns whether the members must be requested from the
    /// others: this member may be behind.
    pub fn should_request(&mut self, now: Millis) -> bool {
        let lately = |requested_at: Millis| now.0 < requested_at.0 + REQUEST_INTERVAL_MS;
        if self.requested_at.is_some_and(lately) {
            return false;
        }
        self.requested_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str) -> Member {
        Member {
            id,
            peer_ur_ls: vec![url.to_owned()],
            ..Member::default()
        }
    }

    fn urls(member: &Member) -> Vec<String> {
        member.peer_ur_ls.clone()
    }

    fn roster(members: &[u64], removed: &[u64]) -> Roster {
        let members = members.iter().map(|id| (*id, member(*id, "a")));
        Roster {
            members: members.collect(),
            removed: removed.iter().copied().collect(),
        }
    }

    #[test]
    fn messages_of_members_are_taken_and_of_no_others() {
        let mut peers = Peers::new(MemberId(1));
        peers.apply(&roster(&[1, 2, 3], &[9]), urls);
        assert_eq!(peers.of(MemberId(2)), Membership::Member);
        assert_eq!(peers.of(MemberId(9)), Membership::Removed);
        assert_eq!(peers.of(MemberId(4)), Membership::Unknown);
        let all: Vec<_> = peers.all().map(|(id, _)| id.0).collect();
        assert_eq!(all, [2, 3], "it is not its own peer");
        peers.apply(&roster(&[1, 3], &[2, 9]), urls);
        assert_eq!(peers.of(MemberId(2)), Membership::Removed);
        assert_eq!(peers.address(MemberId(2)), None);
    }

    /// Otherwise a lagging member would never accept messages of an added one that leads.
    #[test]
    fn a_reported_member_counts_before_it_is_applied() {
        let mut peers = Peers::new(MemberId(1));
        peers.apply(&roster(&[1, 2], &[9]), urls);
        let reported = [
            member(1, "a"),
            member(2, "b"),
            member(4, "b"),
            member(9, "b"),
        ];
        assert!(peers.report(&reported, urls));
        assert_eq!(peers.of(MemberId(4)), Membership::Member);
        assert_eq!(peers.of(MemberId(9)), Membership::Removed);
        assert_eq!(peers.address(MemberId(2)), Some(&vec!["a".to_owned()]));
        assert!(!peers.report(&reported, urls), "nothing is new");
        assert!(!peers.report(&[], urls), "no report");
        assert_eq!(peers.of(MemberId(4)), Membership::Member);
        // The log has caught up: from now on the applied state counts.
        peers.apply(&roster(&[1, 2], &[4, 9]), urls);
        assert_eq!(peers.of(MemberId(4)), Membership::Removed);
    }

    #[test]
    fn reports_are_bounded() {
        let mut peers = Peers::new(MemberId(1));
        peers.apply(&roster(&[1, 2], &[]), urls);
        let many: Vec<_> = (10..1_000).map(|id| member(id, "b")).collect();
        assert!(peers.report(&many, urls));
        assert_eq!(peers.all().count(), 1 + REPORTED_MAX);
    }

    #[test]
    fn members_are_requested_at_most_once_a_second_for_unknown_ones() {
        let mut peers = Peers::<()>::new(MemberId(1));
        assert!(peers.should_request(Millis(5)));
        assert!(!peers.should_request(Millis(1_004)));
        assert!(peers.should_request(Millis(1_005)));
    }
}
