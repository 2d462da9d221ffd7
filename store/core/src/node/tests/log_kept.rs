//! How much of its log a leader keeps for its followers, and which of them it prefers.

use super::load::{LARGE, MIB, settled};
use super::*;

/// More large commands than the 16 MiB that are kept for followers in general, and fewer than the
/// 64 MiB that are kept for those that need them.
const MANY: u64 = 30;

/// Heartbeat intervals in more than one election timeout: the quorum is checked within.
const TICKS: u64 = 25;

/// The leader flushes in the step after a tick, before a follower can have answered the heartbeat.
fn flush_at_each_tick(cluster: &mut Cluster, leader: usize) {
    for _ in 0..TICKS {
        cluster.now += 100;
        cluster.step(leader, None);
        cluster.flush(leader);
        cluster.pass(5);
    }
}

/// The leader has sent a follower a snapshot that does not arrive. Returns its index.
fn send_snapshot(cluster: &mut Cluster, leader: usize, to: usize) -> u64 {
    cluster.dead.push(to);
    cluster.pass(10_000);
    for counter in 0..MANY {
        cluster.propose(leader, counter, &LARGE);
        cluster.flush(leader);
    }
    let status = cluster.nodes[leader].status();
    cluster.dead.clear();
    let captured = Input::SnapshotCaptured {
        last_included: LastIncluded {
            index: status.committed,
            term: status.soft_state.term,
        },
        conf_state: internal::ConfState {
            voters: vec![1, 2, 3],
            ..Default::default()
        },
    };
    cluster.step(leader, Some(captured));
    cluster.pass(500);
    let progress = cluster.nodes[leader].raw.raft.prs();
    let progress = progress.get(to as u64 + 1).expect("a member");
    assert_eq!(progress.state, raft::ProgressState::Snapshot);
    assert_eq!(progress.pending_snapshot, status.committed.0);
    progress.pending_snapshot
}

/// raft-rs forgets once per election timeout which followers have answered. A flush before the next
/// answer cut the log below the snapshot under way: its receiver needed another one, and so on.
#[test]
fn the_log_behind_a_snapshot_under_way_is_kept() {
    let (mut cluster, leader) = settled(3);
    let receiver = (leader + 1) % 3;
    let sent = send_snapshot(&mut cluster, leader, receiver);
    // Its process reads nothing and answers nothing.
    cluster.dead.push(receiver);
    for counter in MANY..2 * MANY {
        cluster.propose(leader, counter, &LARGE);
    }
    flush_at_each_tick(&mut cluster, leader);
    cluster.pass(10_000);
    cluster.flush(leader);
    assert!(cluster.nodes[leader].status().first.0 <= sent + 1);
}

#[test]
fn a_snapshot_that_never_ends_does_not_keep_the_log_for_ever() {
    let (mut cluster, leader) = settled(3);
    let receiver = (leader + 1) % 3;
    send_snapshot(&mut cluster, leader, receiver);
    cluster.dead.push(receiver);
    for counter in MANY..6 * MANY {
        cluster.propose(leader, counter, &LARGE);
        for at in [leader, (leader + 2) % 3] {
            cluster.flush(at);
        }
    }
    assert_eq!(cluster.refused, vec![]);
    assert!(cluster.nodes[leader].status().log_bytes <= 66 * MIB);
}

/// It answers every heartbeat and acknowledges nothing: its disk hangs.
#[test]
fn the_log_is_kept_for_a_follower_that_answers_heartbeats() {
    let (mut cluster, leader) = settled(3);
    let late = (leader + 1) % 3;
    cluster.hanging.push(late);
    let last = cluster.nodes[leader].status().last.0;
    for counter in 0..MANY {
        cluster.propose(leader, counter, &LARGE);
    }
    flush_at_each_tick(&mut cluster, leader);
    assert!(cluster.nodes[leader].status().first.0 <= last + 1);
}

/// A voter that has not answered since raft-rs forgot all answers was passed over for one whose log
/// is shorter.
#[test]
fn leadership_moves_to_the_longest_log_at_every_tick() {
    let (mut cluster, leader) = settled(3);
    let (late, longest) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.hanging.push(late);
    cluster.propose(leader, 1, b"the late one acknowledges nothing");
    for _ in 0..TICKS {
        cluster.dead.push(longest);
        cluster.now += 100;
        cluster.step(leader, None);
        cluster.deliver();
        cluster.dead.clear();
        cluster.step(leader, Some(Input::TransferLeader(None)));
        let chosen = cluster.nodes[leader].raw.raft.lead_transferee;
        assert_eq!(chosen, Some(longest as u64 + 1));
        cluster.nodes[leader].raw.raft.abort_leader_transfer();
        cluster.mail.clear();
        cluster.pass(100);
    }
}
