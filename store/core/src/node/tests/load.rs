//! The bytes that a slow disk, a slow engine and a stopped follower cost.

use super::*;

pub(super) const MIB: usize = 1 << 20;

/// A large command of arbitrary content.
pub(super) static LARGE: [u8; MIB] = [0; MIB];

impl Cluster {
    /// The engine holds everything that the member has applied.
    pub(super) fn flush(&mut self, at: usize) {
        let index = self.nodes[at].status().committed;
        self.step(at, Some(Input::Durable { index }));
        self.deliver();
    }

    fn log_bytes(&self, at: usize) -> usize {
        self.nodes[at].status().log_bytes
    }
}

pub(super) fn settled(members: u64) -> (Cluster, usize) {
    let mut cluster = Cluster::new(members);
    cluster.pass(3000);
    let leader = cluster.leader();
    (cluster, leader)
}

#[test]
fn a_stopped_follower_is_sent_a_bounded_number_of_bytes() {
    let (mut cluster, leader) = settled(3);
    let stopped = (leader + 1) % 3;
    cluster.propose(leader, 1, b"all follow");
    cluster.dead.push(stopped);
    for counter in 2..300 {
        cluster.propose(leader, counter, &LARGE);
        for at in [leader, (leader + 2) % 3] {
            cluster.flush(at);
        }
    }
    cluster.pass(50);
    assert_eq!(cluster.refused, vec![]);
    let sent = cluster.sent_bytes[&MemberId(stopped as u64 + 1)];
    assert!(sent <= 34 * MIB, "{sent} bytes are under way");
    assert!(cluster.log_bytes(leader) <= 80 * MIB);
}

#[test]
fn a_stopped_follower_that_goes_on_gets_what_it_missed() {
    let (mut cluster, leader) = settled(3);
    let stopped = (leader + 1) % 3;
    cluster.dead.push(stopped);
    for counter in 0..50 {
        cluster.propose(leader, counter, &LARGE);
    }
    cluster.dead.clear();
    cluster.pass(2000);
    assert_eq!(cluster.applied[stopped].len(), 50);
    assert_eq!(cluster.refused, vec![]);
}

#[test]
fn a_slow_engine_holds_proposals_back() {
    let (mut cluster, leader) = settled(1);
    let mut counter = 0;
    while cluster.refused.is_empty() && counter < 200 {
        counter += 1;
        cluster.propose(leader, counter, &LARGE);
    }
    let refused = (name(leader, counter), Refusal::TooManyRequests);
    assert_eq!(cluster.refused, vec![refused]);
    assert!(cluster.log_bytes(leader) <= 130 * MIB);
    cluster.flush(leader);
    cluster.propose(leader, counter + 1, &LARGE);
    assert_eq!(cluster.refused.len(), 1, "the engine has caught up");
}

#[test]
fn a_full_memtable_holds_proposals_back() {
    let (mut cluster, leader) = settled(3);
    let follower = (leader + 1) % 3;
    cluster.step(leader, Some(Input::Backlogged(true)));
    cluster.propose(leader, 1, b"here");
    cluster.propose(follower, 1, b"delivered over");
    let expected = [leader, follower].map(|at| (name(at, 1), Refusal::TooManyRequests));
    assert_eq!(cluster.refused, expected);
    cluster.step(leader, Some(Input::Backlogged(false)));
    cluster.propose(follower, 2, b"again");
    assert_eq!(cluster.applied[leader], vec![Bytes::from_static(b"again")]);
}

/// With 512 small appends in flight, raft-rs freed one place for each answer to a heartbeat. It
/// sent nothing until the window fitted the limit for large entries: 50 s later.
#[test]
fn a_follower_that_has_dropped_many_appends_is_soon_sent_more() {
    let (mut cluster, leader) = settled(3);
    let late = (leader + 1) % 3;
    cluster.dead.push((leader + 2) % 3);
    cluster.step(late, Some(Input::Backlogged(true)));
    for counter in 0..600 {
        cluster.propose(leader, counter, b"small");
    }
    for counter in 600..620 {
        cluster.propose(leader, counter, &LARGE);
    }
    cluster.step(late, Some(Input::Backlogged(false)));
    cluster.pass(2_000);
    assert_eq!(cluster.applied[late].len(), 620);
}

#[test]
fn a_follower_with_a_slow_engine_takes_no_more_and_catches_up_later() {
    let (mut cluster, leader) = settled(3);
    let slow = (leader + 1) % 3;
    for counter in 0..170 {
        cluster.propose(leader, counter, &LARGE);
        for at in (0..3).filter(|at| *at != slow) {
            cluster.flush(at);
        }
    }
    assert_eq!(cluster.refused, vec![]);
    assert!(cluster.log_bytes(slow) <= 130 * MIB);
    assert!(cluster.applied[slow].len() < cluster.applied[leader].len());
    cluster.flush(slow);
    cluster.pass(2000);
    assert_eq!(cluster.applied[slow].len(), 170);
}

#[test]
fn a_follower_whose_log_disk_hangs_takes_no_more() {
    let (mut cluster, leader) = settled(3);
    let hanging = (leader + 1) % 3;
    cluster.hanging.push(hanging);
    for counter in 0..120 {
        cluster.propose(leader, counter, &LARGE);
    }
    // Every answer to a heartbeat permits one more append.
    cluster.pass(15_000);
    assert_eq!(cluster.refused, vec![]);
    let held = cluster.log_bytes(hanging);
    assert!(held <= 66 * MIB, "{held} bytes wait for the disk");
}

#[test]
fn what_a_follower_hands_over_is_bounded_and_ends_with_its_client() {
    let (mut cluster, leader) = settled(3);
    let follower = (leader + 1) % 3;
    cluster.dead.push(leader);
    for counter in 1..=100 {
        cluster.propose(follower, counter, &LARGE);
    }
    assert_eq!(cluster.refused.len(), 100 - 64);
    let full = |(_, refusal): &(_, Refusal)| *refusal == Refusal::TooManyRequests;
    assert!(cluster.refused.iter().all(full));
    for counter in 1..=10 {
        let id = name(follower, counter);
        cluster.step(follower, Some(Input::ProposalCancelled { id }));
    }
    for counter in 101..=110 {
        cluster.propose(follower, counter, &LARGE);
    }
    assert_eq!(
        cluster.refused.len(),
        100 - 64,
        "ten have made cluster for ten"
    );
}

#[test]
fn one_turn_takes_no_more_than_may_wait_for_a_commit() {
    let (mut cluster, leader) = settled(3);
    let command = Bytes::from_static(&LARGE);
    let propose = |counter| Input::Propose {
        id: name(leader, counter),
        command: command.clone(),
    };
    let now = Millis(cluster.now);
    let output = cluster.nodes[leader].step(now, (1..=200).map(propose));
    cluster.carry_out(leader, output);
    cluster.deliver();
    assert!((200 - 64..200).contains(&cluster.refused.len()));
    assert_eq!(cluster.applied[leader].len() + cluster.refused.len(), 200);
}

#[test]
fn a_read_that_waits_for_a_leader_needs_no_turns() {
    let mut cluster = Cluster::new(3);
    let now = Millis(cluster.now + 1);
    let output = cluster.nodes[0].step(now, Some(Input::Read { context: 1 }));
    assert!(
        now.0 + 50 < output.wake_at.0,
        "the next tick is soon enough"
    );
}

/// As after a pause of the process, when many messages wait.
#[test]
fn appends_of_one_turn_count_before_the_log_has_them() {
    let (mut cluster, leader) = settled(3);
    let follower = (leader + 1) % 3;
    let status = cluster.nodes[leader].status();
    let term = status.soft_state.term.0;
    let append = |number: u64| {
        let index = status.last.0 + number;
        let entry = peer::RaftEntry {
            term,
            index: index + 1,
            data: Bytes::from_static(&LARGE),
            ..peer::RaftEntry::default()
        };
        Input::Raft(peer::RaftMessage {
            kind: crate::node::APPEND,
            to: follower as u64 + 1,
            from: leader as u64 + 1,
            term,
            log_term: term,
            index,
            entries: vec![entry],
            commit: status.committed.0,
            ..peer::RaftMessage::default()
        })
    };
    let now = Millis(cluster.now);
    cluster.nodes[follower].step(now, (0..200).map(append));
    let held = cluster.log_bytes(follower);
    assert!(0 < held && held <= 66 * MIB, "{held} bytes in one step");
}

#[test]
fn a_name_that_is_handed_over_twice_is_counted_once() {
    let (mut cluster, leader) = settled(3);
    let follower = (leader + 1) % 3;
    cluster.dead.push(leader);
    for _ in 0..64 {
        cluster.propose(follower, 1, &LARGE);
    }
    assert_eq!(cluster.refused, vec![]);
    let id = name(follower, 1);
    cluster.step(follower, Some(Input::ProposalCancelled { id }));
    for counter in 2..66 {
        cluster.propose(follower, counter, &LARGE);
    }
    assert_eq!(cluster.refused, vec![]);
}
