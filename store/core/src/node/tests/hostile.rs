//! Messages that no correct member sends: they change no state and end no process.

use raft::eraftpb::MessageType;

use super::*;

/// What a peer may send.
const KINDS: [MessageType; 10] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Numbers that overflow, or lie just beyond the valid range.
fn number(dice: &mut u64, about: u64) -> u64 {
    let near = [about, about + 1, about.saturating_sub(1), about + 7];
    let far = [0, 1, 2, 1 << 40, u64::MAX, u64::MAX - 1, i64::MAX as u64];
    match draw(dice, 3) {
        0 => far[draw(dice, far.len() as u64) as usize],
        _ => near[draw(dice, near.len() as u64) as usize],
    }
}

fn draw(dice: &mut u64, of: u64) -> u64 {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*dice >> 33) % of
}

fn entries(dice: &mut u64, index: u64, term: u64) -> Vec<peer::RaftEntry> {
    (0..draw(dice, 3))
        .map(|at| peer::RaftEntry {
            kind: 2 * draw(dice, 2) as u32,
            index: index.wrapping_add(at + 1),
            term: number(dice, term),
            data: Bytes::from_static(b"data"),
            context: Bytes::from_static(&[7; 30]),
        })
        .collect()
}

fn snapshot(dice: &mut u64, last: u64, term: u64) -> peer::RaftSnapshotMeta {
    let mut ids = || -> Vec<u64> { (0..draw(dice, 4)).map(|_| draw(dice, 5)).collect() };
    let conf_state = internal::ConfState {
        voters: ids(),
        learners: ids(),
        voters_outgoing: ids(),
        learners_next: ids(),
        auto_leave: false,
    };
    peer::RaftSnapshotMeta {
        index: number(dice, last),
        term: number(dice, term),
        conf_state: Some(conf_state),
    }
}

fn message(dice: &mut u64, to: u64, status: &NodeStatus) -> peer::RaftMessage {
    let (last, term) = (status.last.0, status.soft_state.term.0);
    let index = number(dice, last);
    let claimed = match draw(dice, 4) {
        0 => number(dice, term),
        _ => term + draw(dice, 2),
    };
    peer::RaftMessage {
        kind: KINDS[draw(dice, KINDS.len() as u64) as usize] as u32,
        to,
        from: 1 + draw(dice, 4),
        term: claimed,
        log_term: [0, term, number(dice, term)][draw(dice, 3) as usize],
        index,
        entries: entries(dice, index, term),
        commit: number(dice, status.committed.0),
        commit_term: number(dice, term),
        snapshot: (draw(dice, 4) == 0).then(|| snapshot(dice, last, term)),
        request_snapshot: [0, 0, number(dice, last)][draw(dice, 3) as usize],
        reject: draw(dice, 2) == 0,
        reject_hint: number(dice, last),
        context: Bytes::from_static(b"CampaignTransfer"),
        priority: draw(dice, 3) as i64 - 1,
    }
}

/// Every member accepts them from every other member, in every role.
#[test]
fn no_message_of_a_member_ends_another() {
    for seed in 0..100 {
        let mut dice = seed;
        let mut cluster = Cluster::of(3, 1, true);
        cluster.pass(3000);
        cluster.propose(cluster.leader(), 1, b"command");
        let at = draw(&mut dice, 4) as usize;
        for _ in 0..50 {
            let forged = message(&mut dice, at as u64 + 1, &cluster.nodes[at].status());
            let input = match forged.kind == MessageType::MsgSnapshot as u32 {
                true => Input::SnapshotReceived {
                    offer: forged,
                    roster: Box::default(),
                },
                false => Input::Raft(forged),
            };
            cluster.step(at, Some(input));
            // Its answers are dropped; only its disk reports back.
            cluster
                .mail
                .retain(|(to, input)| *to == at && matches!(input, Input::Persisted { .. }));
            cluster.deliver();
            cluster.now += draw(&mut dice, 200);
            cluster.step(at, None);
        }
    }
}

#[test]
fn an_answer_about_what_a_leader_never_sent_is_dropped() {
    let mut cluster = Cluster::new(3);
    cluster.dead.push(2);
    cluster.pass(6000);
    let leader = cluster.leader();
    let status = cluster.nodes[leader].status();
    for index in 0..=status.last.0 {
        let answer = peer::RaftMessage {
            kind: MessageType::MsgAppendResponse as u32,
            to: leader as u64 + 1,
            from: 3,
            term: status.soft_state.term.0,
            index,
            reject: true,
            reject_hint: u64::MAX,
            ..Default::default()
        };
        cluster.step(leader, Some(Input::Raft(answer)));
    }
    cluster.pass(200);
    assert_eq!(cluster.leader(), leader);
}
