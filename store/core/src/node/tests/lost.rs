//! A member that restarts without entries that it has acknowledged.

use super::*;

#[test]
fn a_member_that_lost_its_log_reports_it_and_commits_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3000);
    let lost = (cluster.leader() + 1) % 3;
    for counter in 0..5 {
        cluster.propose(cluster.leader(), counter, b"acknowledged");
    }
    cluster.pass(200);
    let before = cluster.nodes[lost].status();
    cluster.nodes[lost] = Cluster::new(3).nodes.remove(lost);
    cluster.pass(1000);
    let found = cluster.lost[lost].expect("the leader's heartbeats commit more");
    assert_eq!(found.commit, before.committed);
    assert_eq!(found.last, Index(1));
    assert_eq!(found.leader, MemberId(cluster.leader() as u64 + 1));
    let text = found.to_string();
    assert!(
        text.contains("member remove") && text.contains("member add"),
        "{text}"
    );
    assert_eq!(cluster.lost.iter().flatten().count(), 1);
}

#[test]
fn a_single_forged_heartbeat_beyond_the_log_changes_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3000);
    let (leader, at) = (cluster.leader(), (cluster.leader() + 1) % 3);
    for _ in 0..10 {
        let forged = peer::RaftMessage {
            kind: raft::eraftpb::MessageType::MsgHeartbeat as u32,
            from: leader as u64 + 1,
            to: at as u64 + 1,
            term: cluster.nodes[at].status().soft_state.term.0,
            commit: 1 << 40,
            ..Default::default()
        };
        cluster.step(at, Some(Input::Raft(forged)));
        cluster.pass(200);
    }
    assert_eq!(cluster.lost[at], None);
    cluster.propose(leader, 1, b"goes on");
    cluster.pass(200);
    assert_eq!(cluster.applied[at].len(), 1);
}
