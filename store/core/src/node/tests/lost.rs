//! A member that restarts without entries that it has acknowledged.

use super::*;

#[test]
fn a_member_that_lost_its_log_is_not_committed_to_and_hears_why() {
    let mut room = Room::new(3);
    room.pass(3000);
    let lost = (room.leader() + 1) % 3;
    for counter in 0..5 {
        room.propose(room.leader(), counter, b"acknowledged");
    }
    room.pass(200);
    let before = room.nodes[lost].status();
    room.nodes[lost] = Room::new(3).nodes.remove(lost);
    room.pass(1000);
    let found = room.lost[lost].expect("the leader's heartbeats commit more");
    assert_eq!(found.commit, before.committed);
    assert_eq!(found.last, Index(1));
    assert_eq!(found.leader, MemberId(room.leader() as u64 + 1));
    let text = found.to_string();
    assert!(
        text.contains("member remove") && text.contains("member add"),
        "{text}"
    );
    assert_eq!(room.lost.iter().flatten().count(), 1);
}

#[test]
fn a_single_forged_heartbeat_beyond_the_log_changes_nothing() {
    let mut room = Room::new(3);
    room.pass(3000);
    let (leader, at) = (room.leader(), (room.leader() + 1) % 3);
    for _ in 0..10 {
        let forged = peer::RaftMessage {
            kind: raft::eraftpb::MessageType::MsgHeartbeat as u32,
            from: leader as u64 + 1,
            to: at as u64 + 1,
            term: room.nodes[at].status().soft_state.term.0,
            commit: 1 << 40,
            ..Default::default()
        };
        room.step(at, Some(Input::Raft(forged)));
        room.pass(200);
    }
    assert_eq!(room.lost[at], None);
    room.propose(leader, 1, b"goes on");
    room.pass(200);
    assert_eq!(room.applied[at].len(), 1);
}
