//! Linearizable reads while the log's disks are slow.

use super::*;

/// A settled cluster with an entry that no log has made durable yet.
fn hanging(leader_only: bool) -> (Cluster, usize) {
    let mut cluster = Cluster::new(3);
    cluster.pass(3_000);
    let leader = cluster.leader();
    cluster.hanging = match leader_only {
        true => vec![leader],
        false => (0..3).collect(),
    };
    cluster.propose(leader, 1, b"not durable");
    (cluster, leader)
}

/// The indexes of a read at each member, and what that member has delivered by then.
fn read_everywhere(cluster: &mut Cluster) -> Vec<(Index, u64)> {
    let mut read = Vec::new();
    for at in 0..3 {
        cluster.reads.clear();
        let context = at as u64;
        cluster.step(at, Some(Input::Read { context }));
        cluster.deliver();
        let [ready] = cluster.reads[..] else {
            panic!("{:?} at {at}", cluster.reads);
        };
        read.push((ready.index, cluster.nodes[at].delivered));
    }
    read
}

/// A read needs what is committed. What waits for a disk is not, so no read waits for it: neither
/// the leader's confirmation nor its index depends on the log.
#[test]
fn a_read_waits_for_no_disk_whose_entries_are_not_committed() {
    let (mut cluster, _) = hanging(false);
    for (index, delivered) in read_everywhere(&mut cluster) {
        assert!(index.0 <= delivered, "{index} after {delivered}");
    }
    assert!(cluster.applied.iter().all(Vec::is_empty));
}

/// The entry is committed by the others. They answer reads at once; the leader applies it once it
/// is in its own log.
#[test]
fn a_leader_with_a_slow_disk_holds_up_no_read_of_the_others() {
    let (mut cluster, leader) = hanging(true);
    cluster.pass(200);
    for (at, (index, delivered)) in read_everywhere(&mut cluster).into_iter().enumerate() {
        assert_eq!(
            index.0 <= delivered,
            at != leader,
            "{index} after {delivered}"
        );
    }
}
