//! Which membership changes a leader proposes, and which take effect.

use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::MemberChange;
use keelson_proto::internal::member_change::Op;
use prost::Message as _;

use super::*;

/// Long enough for a silent member to count as unhealthy.
const SILENCE_MS: u64 = 4_000;

pub(super) fn member(id: u64) -> Member {
    Member {
        id,
        peer_ur_ls: vec![format!("http://{id}:2380")],
        ..Member::default()
    }
}

fn learner(id: u64) -> Member {
    Member {
        is_learner: true,
        ..member(id)
    }
}

impl Room {
    /// Proposes a change at that member. Returns the refusal, if there is one.
    fn change(&mut self, at: usize, op: Op) -> Option<Refusal> {
        self.propose_change(at, op);
        self.deliver();
        self.refused.pop().map(|(_, refusal)| refusal)
    }

    fn propose_change(&mut self, at: usize, op: Op) {
        let id = ProposalId {
            member: MemberId(at as u64 + 1),
            incarnation: 1,
            counter: self.now * 10 + self.mail.len() as u64,
        };
        let change = MemberChange { op: Some(op) }.encode_to_vec().into();
        self.step(at, Some(Input::ProposeMembership { id, change }));
    }

    /// A settled cluster: its leader, and two others.
    fn settled(count: u64, strict: bool) -> (Room, usize, usize, usize) {
        let mut room = Room::with(count, strict);
        room.pass(3_000);
        let leader = room.leader();
        let size = room.nodes.len();
        (room, leader, (leader + 1) % size, (leader + 2) % size)
    }

    fn kill(&mut self, at: usize) {
        self.dead.push(at);
        self.pass(SILENCE_MS);
    }
}

fn id(at: usize) -> u64 {
    at as u64 + 1
}

#[test]
fn no_member_is_added_while_a_voter_is_silent() {
    for at_follower in [false, true] {
        let (mut room, leader, other, dead) = Room::settled(3, true);
        room.kill(dead);
        let at = if at_follower { other } else { leader };
        for new in [member(5), learner(5)] {
            let refused = room.change(at, Op::Add(new));
            assert_eq!(refused, Some(Refusal::UnhealthyCluster));
        }
    }
}

#[test]
fn a_death_that_was_noticed_counts_at_once() {
    let (mut room, leader, _, dead) = Room::settled(3, true);
    room.step(leader, Some(Input::PeerDown(MemberId(id(dead)))));
    let refused = room.change(leader, Op::Add(member(4)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
}

/// Within three election timeouts of the old leader's last heartbeat a voter could be added to two
/// of three, and the quorum was gone.
#[test]
fn a_new_leader_counts_only_those_that_answer_it() {
    let (mut room, leader, _, _) = Room::settled(3, true);
    room.dead.push(leader);
    let leads = |room: &Room| {
        let roles = room.nodes.iter().map(|node| node.status().soft_state.role);
        let mut others = roles.enumerate().filter(|(at, _)| *at != leader);
        others.any(|(_, role)| role == Role::Leader)
    };
    while !leads(&room) {
        room.pass(5);
    }
    room.pass(200);
    let refused = room.change(room.leader(), Op::Add(member(4)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
    room.dead.clear();
    room.pass(500);
    assert_eq!(room.change(room.leader(), Op::Add(member(4))), None);
}

/// A leader without any answer yet cannot distinguish live voters from dead ones.
#[test]
fn a_new_leader_removes_none_before_a_majority_has_answered() {
    let (mut room, dead, _, _) = Room::settled(3, true);
    room.dead.push(dead);
    let elected = |room: &Room| {
        let leads = |node: &Node| node.status().soft_state.role == Role::Leader;
        (0..3).find(|at| *at != dead && leads(&room.nodes[*at]))
    };
    let leader = loop {
        if let Some(leader) = elected(&room) {
            break leader;
        }
        match room.mail.pop_front() {
            Some((at, input)) => room.step(at, Some(input)),
            None => {
                room.now += 5;
                (0..3).for_each(|at| room.step(at, None));
            }
        }
    };
    let other = 3 - leader - dead;
    room.propose_change(leader, Op::Remove(id(other)));
    let refused = room.refused.pop().map(|(_, refusal)| refusal);
    assert_eq!(refused, Some(Refusal::MembershipChangePending));
    room.deliver();
    let refused = room.change(leader, Op::Remove(id(other)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
}

/// The connection broke, regardless of what answers at the peer's URLs.
#[test]
fn a_voter_whose_messages_are_lost_is_healthy_once_it_is_heard_again() {
    let (mut room, leader, _, other) = Room::settled(3, true);
    room.step(leader, Some(Input::Unreachable(MemberId(id(other)))));
    let refused = room.change(leader, Op::Add(member(4)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
    room.pass(500);
    assert_eq!(room.change(leader, Op::Add(member(4))), None);
}

#[test]
fn a_voter_that_answers_stays_while_another_is_silent() {
    let (mut room, leader, other, dead) = Room::settled(3, true);
    room.kill(dead);
    for at in [leader, other] {
        let refused = room.change(leader, Op::Remove(id(at)));
        assert_eq!(refused, Some(Refusal::UnhealthyCluster), "member {at}");
    }
    assert_eq!(room.change(leader, Op::Remove(id(dead))), None);
    assert_eq!(room.nodes[leader].voters().len(), 2);
}

#[test]
fn the_last_voter_stays_even_without_the_strict_check() {
    for strict in [true, false] {
        let mut room = Room::with(1, strict);
        room.pass(3_000);
        let refused = room.change(0, Op::Remove(1));
        assert_eq!(refused, Some(Refusal::LastVoter));
    }
}

#[test]
fn a_learner_that_never_started_is_not_promoted() {
    for strict in [true, false] {
        let mut room = Room::with(1, strict);
        room.pass(3_000);
        assert_eq!(room.change(0, Op::Add(learner(2))), None);
        let refused = room.change(0, Op::Promote(2));
        assert_eq!(refused, Some(Refusal::LearnerNotReady));
        assert_eq!(room.nodes[0].voters(), [MemberId(1)]);
    }
}

/// The learner's log is behind, or complete and its process is gone.
#[test]
fn only_a_learner_that_answers_and_has_the_log_is_promoted() {
    let (mut room, leader, learns, _) = Room::settled(3, true);
    // A voter that was removed and added again as a learner: the cluster has no further node.
    room.dead.push(learns);
    room.pass(SILENCE_MS);
    assert_eq!(room.change(leader, Op::Remove(id(learns))), None);
    room.nodes[leader].roster.removed.clear();
    assert_eq!(room.change(leader, Op::Add(learner(id(learns)))), None);
    for counter in 0..20 {
        room.propose(leader, 1_000 + counter, b"entry");
    }
    let promote = || Op::Promote(id(learns));
    assert_eq!(
        room.change(leader, promote()),
        Some(Refusal::LearnerNotReady)
    );
    room.dead.clear();
    room.pass(1_000);
    room.dead.push(learns);
    room.pass(SILENCE_MS);
    assert_eq!(
        room.change(leader, promote()),
        Some(Refusal::LearnerNotReady)
    );
    room.dead.clear();
    room.pass(1_000);
    assert_eq!(room.change(leader, promote()), None);
}

/// Each of them alone could be proposed.
#[test]
fn of_changes_at_once_one_is_proposed() {
    let (mut room, leader, other, _) = Room::settled(3, true);
    for new in [4, 5, 6] {
        room.propose_change(if new == 5 { other } else { leader }, Op::Add(member(new)));
    }
    room.deliver();
    let refused: Vec<_> = room.refused.iter().map(|(_, refusal)| *refusal).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(room.nodes[leader].voters().len(), 4);
    // The new voter does not answer: a repeated proposal is checked again.
    let refused = room.change(leader, Op::Add(member(5)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
}

#[test]
fn without_the_strict_check_changes_are_the_operators_affair() {
    let (mut room, leader, other, dead) = Room::settled(3, false);
    room.kill(dead);
    assert_eq!(room.change(leader, Op::Add(member(4))), None);
    let (mut again, leader_again, ..) = Room::settled(3, false);
    assert_eq!(again.change(leader_again, Op::Remove(id(other))), None);
}

/// Two members of four removed the third, which had failed, and after a power loss counted four
/// voters again: the simulator's seed 1076. The commit was written only with the next entry.
#[test]
fn members_that_restart_have_the_removal_that_they_applied() {
    let (mut room, leader, other, removed) = Room::settled(4, true);
    assert_eq!(room.change(leader, Op::Remove(id(removed))), None);
    let remaining = (0..4).filter(|at| *at != removed);
    for at in remaining {
        let committed = room.nodes[at].status().committed;
        assert_eq!(room.nodes[at].voters().len(), 3, "{at} has applied it");
        assert_eq!(
            room.written_commit[at], committed,
            "{at} of {leader}, {other}"
        );
    }
}

#[test]
fn a_change_that_does_not_fit_the_members_is_not_proposed() {
    let (mut room, leader, other, _) = Room::settled(3, true);
    let mut moved = member(id(leader));
    moved.peer_ur_ls = member(id(other)).peer_ur_ls;
    let refused = room.change(leader, Op::Update(moved));
    assert_eq!(refused, Some(Refusal::MembershipConflict));
}

/// A leader of an earlier release proposed it without a check of the URLs.
#[test]
fn a_change_that_does_not_fit_the_members_does_not_take_effect() {
    let (mut room, leader, other, _) = Room::settled(3, true);
    let add = MemberChange {
        op: Some(Op::Add(Member {
            id: 4,
            ..member(id(other))
        })),
    };
    let name = ProposalId {
        member: MemberId(99),
        incarnation: 1,
        counter: 1,
    };
    let mut entry = raft::eraftpb::Entry::default();
    entry.entry_type = raft::eraftpb::EntryType::EntryConfChangeV2;
    let mut single = raft::eraftpb::ConfChangeSingle::default();
    single.node_id = 4;
    entry.data = crate::node::membership::encode_for_raft(single).into();
    entry.context = crate::proposal::encode(name, &add.encode_to_vec());
    room.nodes[leader].propose(vec![entry]).expect("the leader");
    room.pass(500);
    for node in &room.nodes {
        assert_eq!(node.voters().len(), 3);
        assert!(!node.roster.members.contains_key(&4));
    }
}
