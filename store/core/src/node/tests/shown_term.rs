//! The term for clients: it never decreases, across restarts either.

use super::*;
use crate::HardState;

const NEWER: Term = Term(9);

/// A follower of a settled cluster, and a heartbeat of a newer term for it.
fn follower() -> (Cluster, usize, Input) {
    let mut cluster = Cluster::new(3);
    cluster.pass(3_000);
    let leader = cluster.leader();
    let at = (leader + 1) % 3;
    let heartbeat = peer::RaftMessage {
        kind: raft::eraftpb::MessageType::MsgHeartbeat as u32,
        from: leader as u64 + 1,
        to: at as u64 + 1,
        term: NEWER.0,
        ..Default::default()
    };
    (cluster, at, Input::Raft(heartbeat))
}

/// A crash would lose it: the next incarnation would answer with the older term.
#[test]
fn a_term_that_is_not_durable_is_not_shown() {
    let (mut cluster, at, heartbeat) = follower();
    let before = cluster.nodes[at].status();
    assert_eq!(before.shown_term, before.soft_state.term);
    let output = cluster.nodes[at].step(Millis(cluster.now), [heartbeat]);
    let append = output.append.expect("the new term is for the log");
    assert_eq!(append.hard_state.map(|state| state.term), Some(NEWER));
    let status = cluster.nodes[at].status();
    assert_eq!(status.soft_state.term, NEWER);
    assert_eq!(status.shown_term, before.shown_term);
    let number = append.number;
    cluster.step(at, Some(Input::Persisted { number }));
    assert_eq!(cluster.nodes[at].status().shown_term, NEWER);
}

#[test]
fn a_restarted_member_shows_the_term_of_its_log_at_once() {
    let hard_state = HardState {
        term: NEWER,
        vote: MemberId(2),
        commit: Index(1),
    };
    let start = LastIncluded {
        index: Index(1),
        term: Term(1),
    };
    let restored = Restored {
        hard_state,
        log_start: start,
        applied: internal::AppliedMark {
            index: 1,
            term: 1,
            conf_state: None,
            hash: None,
        },
        ..Restored::default()
    };
    let config = NodeConfig::new(MemberId(1), 2);
    let (node, _) = Node::new(config, restored).expect("a sound log");
    assert_eq!(node.status().shown_term, NEWER);
    assert_eq!(node.status().soft_state.term, NEWER);
}

/// A delivered entry is durable, and so is its term.
#[test]
fn the_shown_term_is_at_least_that_of_every_delivered_entry() {
    let mut cluster = Cluster::new(3);
    for round in 0..4 {
        cluster.pass(3_000);
        let leader = cluster.leader();
        cluster.propose(leader, round, b"entry");
        cluster.pass(200);
        for node in &cluster.nodes {
            assert!(Term(node.delivered_term) <= node.status().shown_term);
        }
        let next = MemberId((leader as u64 + 1) % 3 + 1);
        cluster.step(leader, Some(Input::TransferLeader(Some(next))));
        cluster.deliver();
    }
    let terms: Vec<_> = cluster.nodes.iter().map(|it| it.delivered_term).collect();
    assert!(terms.iter().all(|term| 3 < *term), "{terms:?}");
}
