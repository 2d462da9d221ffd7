//! Linearizable reads at a leader whose process stood still.

use super::*;

/// etcd#20418: the answers to heartbeats from before the pause confirmed reads from after it, since
/// a repeated round had the context of the first. Meanwhile another leader had committed a write.
#[test]
fn reads_after_a_pause_are_not_confirmed_by_answers_from_before() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3_000);
    let paused = cluster.leader();
    cluster.step(paused, Some(Input::Read { context: 7 }));
    for (at, input) in std::mem::take(&mut cluster.mail) {
        assert_ne!(at, paused);
        cluster.step(at, Some(input));
    }
    let late = std::mem::take(&mut cluster.mail);
    assert!(late.iter().all(|(at, _)| *at == paused));
    assert!(!late.is_empty(), "the answers are under way");

    cluster.dead.push(paused);
    for at in 0..3 {
        cluster.step(at, Some(Input::PeerDown(MemberId(paused as u64 + 1))));
    }
    cluster.pass(2_000);
    let next = cluster.leader();
    cluster.propose(next, 1, b"not seen by the paused leader");
    assert_eq!(cluster.applied[next].len(), 1);
    cluster.dead.clear();
    cluster.reads.clear();

    cluster.step(paused, Some(Input::Read { context: 8 }));
    cluster.mail.clear();
    for (_, input) in late {
        cluster.step(paused, Some(input));
    }
    assert_eq!(cluster.reads, vec![]);
    cluster.pass(2_000);
    let committed = cluster.nodes[next].status().committed;
    let mut read: Vec<_> = cluster.reads.iter().map(|read| read.context).collect();
    read.sort_unstable();
    assert_eq!(read, [7, 8]);
    assert!(cluster.reads.iter().all(|read| read.index == committed));
}
