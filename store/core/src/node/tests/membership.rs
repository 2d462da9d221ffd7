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

impl Cluster {
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
    fn settled(count: u64, strict: bool) -> (Cluster, usize, usize, usize) {
        let mut cluster = Cluster::with(count, strict);
        cluster.pass(3_000);
        let leader = cluster.leader();
        let size = cluster.nodes.len();
        (cluster, leader, (leader + 1) % size, (leader + 2) % size)
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
        let (mut cluster, leader, other, dead) = Cluster::settled(3, true);
        cluster.kill(dead);
        let at = if at_follower { other } else { leader };
        for new in [member(5), learner(5)] {
            let refused = cluster.change(at, Op::Add(new));
            assert_eq!(refused, Some(Refusal::UnhealthyCluster));
        }
    }
}

#[test]
fn a_detected_death_counts_at_once() {
    let (mut cluster, leader, _, dead) = Cluster::settled(3, true);
    cluster.step(leader, Some(Input::PeerDown(MemberId(id(dead)))));
    let refused = cluster.change(leader, Op::Add(member(4)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
}

/// Within three election timeouts of the old leader's last heartbeat a voter could be added to two
/// of three, and the quorum was gone.
#[test]
fn a_new_leader_counts_only_those_that_answer_it() {
    let (mut cluster, leader, _, _) = Cluster::settled(3, true);
    cluster.dead.push(leader);
    let leads = |cluster: &Cluster| {
        let roles = cluster
            .nodes
            .iter()
            .map(|node| node.status().soft_state.role);
        let mut others = roles.enumerate().filter(|(at, _)| *at != leader);
        others.any(|(_, role)| role == Role::Leader)
    };
    while !leads(&cluster) {
        cluster.pass(5);
    }
    cluster.pass(200);
    let refused = cluster.change(cluster.leader(), Op::Add(member(4)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
    cluster.dead.clear();
    cluster.pass(500);
    assert_eq!(cluster.change(cluster.leader(), Op::Add(member(4))), None);
}

/// A leader without any answer yet cannot distinguish live voters from dead ones.
#[test]
fn a_new_leader_removes_none_before_a_majority_has_answered() {
    let (mut cluster, dead, _, _) = Cluster::settled(3, true);
    cluster.dead.push(dead);
    let elected = |cluster: &Cluster| {
        let leads = |node: &Node| node.status().soft_state.role == Role::Leader;
        (0..3).find(|at| *at != dead && leads(&cluster.nodes[*at]))
    };
    let leader = loop {
        if let Some(leader) = elected(&cluster) {
            break leader;
        }
        match cluster.mail.pop_front() {
            Some((at, input)) => cluster.step(at, Some(input)),
            None => {
                cluster.now += 5;
                (0..3).for_each(|at| cluster.step(at, None));
            }
        }
    };
    let other = 3 - leader - dead;
    cluster.propose_change(leader, Op::Remove(id(other)));
    let refused = cluster.refused.pop().map(|(_, refusal)| refusal);
    assert_eq!(refused, Some(Refusal::MembershipChangePending));
    cluster.deliver();
    let refused = cluster.change(leader, Op::Remove(id(other)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
}

/// The connection broke, regardless of what answers at the peer's URLs.
#[test]
fn a_voter_whose_messages_were_lost_is_healthy_with_its_next_message() {
    let (mut cluster, leader, _, other) = Cluster::settled(3, true);
    cluster.step(leader, Some(Input::Unreachable(MemberId(id(other)))));
    let refused = cluster.change(leader, Op::Add(member(4)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
    cluster.pass(500);
    assert_eq!(cluster.change(leader, Op::Add(member(4))), None);
}

#[test]
fn a_voter_that_answers_stays_while_another_is_silent() {
    let (mut cluster, leader, other, dead) = Cluster::settled(3, true);
    cluster.kill(dead);
    for at in [leader, other] {
        let refused = cluster.change(leader, Op::Remove(id(at)));
        assert_eq!(refused, Some(Refusal::UnhealthyCluster), "member {at}");
    }
    assert_eq!(cluster.change(leader, Op::Remove(id(dead))), None);
    assert_eq!(cluster.nodes[leader].voters().len(), 2);
}

#[test]
fn the_last_voter_stays_even_without_the_strict_check() {
    for strict in [true, false] {
        let mut cluster = Cluster::with(1, strict);
        cluster.pass(3_000);
        let refused = cluster.change(0, Op::Remove(1));
        assert_eq!(refused, Some(Refusal::LastVoter));
    }
}

#[test]
fn a_learner_that_never_started_is_not_promoted() {
    for strict in [true, false] {
        let mut cluster = Cluster::with(1, strict);
        cluster.pass(3_000);
        assert_eq!(cluster.change(0, Op::Add(learner(2))), None);
        let refused = cluster.change(0, Op::Promote(2));
        assert_eq!(refused, Some(Refusal::LearnerNotReady));
        assert_eq!(cluster.nodes[0].voters(), [MemberId(1)]);
    }
}

/// The learner's log is behind, or complete and its process is gone.
#[test]
fn only_a_learner_that_answers_and_has_the_log_is_promoted() {
    let (mut cluster, leader, learns, _) = Cluster::settled(3, true);
    // A voter that was removed and added again as a learner: the cluster has no further node.
    cluster.dead.push(learns);
    cluster.pass(SILENCE_MS);
    assert_eq!(cluster.change(leader, Op::Remove(id(learns))), None);
    cluster.nodes[leader].roster.removed.clear();
    assert_eq!(cluster.change(leader, Op::Add(learner(id(learns)))), None);
    for counter in 0..20 {
        cluster.propose(leader, 1_000 + counter, b"entry");
    }
    let promote = || Op::Promote(id(learns));
    assert_eq!(
        cluster.change(leader, promote()),
        Some(Refusal::LearnerNotReady)
    );
    cluster.dead.clear();
    cluster.pass(1_000);
    cluster.dead.push(learns);
    cluster.pass(SILENCE_MS);
    assert_eq!(
        cluster.change(leader, promote()),
        Some(Refusal::LearnerNotReady)
    );
    cluster.dead.clear();
    cluster.pass(1_000);
    assert_eq!(cluster.change(leader, promote()), None);
}

/// Each of them alone could be proposed.
#[test]
fn of_changes_at_once_one_is_proposed() {
    let (mut cluster, leader, other, _) = Cluster::settled(3, true);
    for new in [4, 5, 6] {
        cluster.propose_change(if new == 5 { other } else { leader }, Op::Add(member(new)));
    }
    cluster.deliver();
    let refused: Vec<_> = cluster
        .refused
        .iter()
        .map(|(_, refusal)| *refusal)
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(cluster.nodes[leader].voters().len(), 4);
    // The new voter does not answer: a repeated proposal is checked again.
    let refused = cluster.change(leader, Op::Add(member(5)));
    assert_eq!(refused, Some(Refusal::UnhealthyCluster));
}

#[test]
fn without_the_strict_check_changes_are_the_operators_affair() {
    let (mut cluster, leader, other, dead) = Cluster::settled(3, false);
    cluster.kill(dead);
    assert_eq!(cluster.change(leader, Op::Add(member(4))), None);
    let (mut again, leader_again, ..) = Cluster::settled(3, false);
    assert_eq!(again.change(leader_again, Op::Remove(id(other))), None);
}

/// Two members of four removed the third, which had failed, and after a power loss counted four
/// voters again: the simulator's seed 1076. The commit was written only with the next entry.
#[test]
fn members_that_restart_have_the_removal_that_they_applied() {
    let (mut cluster, leader, other, removed) = Cluster::settled(4, true);
    assert_eq!(cluster.change(leader, Op::Remove(id(removed))), None);
    let remaining = (0..4).filter(|at| *at != removed);
    for at in remaining {
        let committed = cluster.nodes[at].status().committed;
        assert_eq!(cluster.nodes[at].voters().len(), 3, "{at} has applied it");
        assert_eq!(
            cluster.written_commit[at], committed,
            "{at} of {leader}, {other}"
        );
    }
}

#[test]
fn a_change_that_does_not_fit_the_members_is_not_proposed() {
    let (mut cluster, leader, other, _) = Cluster::settled(3, true);
    let mut moved = member(id(leader));
    moved.peer_ur_ls = member(id(other)).peer_ur_ls;
    let refused = cluster.change(leader, Op::Update(moved));
    assert_eq!(refused, Some(Refusal::MembershipConflict));
}

#[test]
fn the_leader_limits_learners_and_members_with_lower_limits_apply_them() {
    let (mut cluster, leader, other, _) = Cluster::settled(3, true);
    cluster.nodes[leader].config.learners_max = 2;
    for number in [10, 11] {
        assert_eq!(cluster.change(other, Op::Add(learner(number))), None);
    }
    let refused = cluster.change(other, Op::Add(learner(12)));
    assert_eq!(refused, Some(Refusal::TooManyLearners));
    cluster.pass(500);
    for node in &cluster.nodes {
        assert_eq!(node.roster.learners(), 2);
        assert_eq!(node.voters().len(), 3);
    }
    assert_eq!(cluster.change(leader, Op::Add(member(12))), None);
}

/// A leader of an earlier release proposed it without a check of the URLs.
#[test]
fn a_change_that_does_not_fit_the_members_does_not_take_effect() {
    let (mut cluster, leader, other, _) = Cluster::settled(3, true);
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
    cluster.nodes[leader]
        .propose(vec![entry])
        .expect("the leader");
    cluster.pass(500);
    for node in &cluster.nodes {
        assert_eq!(node.voters().len(), 3);
        assert!(!node.roster.members.contains_key(&4));
    }
}
