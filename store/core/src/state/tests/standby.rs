//! A standby: it has the rows of the cluster that it follows, and takes no other changes.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{
    LeaseRow, MemberAttributes, Replicate, ReplicatedChange, ReplicatedLease, ReplicatedRevision,
    ReplicatedTree, TreeEventNode, TreeExpire,
};

use super::harness::{Machine, conf_state, member};
use super::requests::*;
use crate::engine::MemoryEngine;
use crate::state::*;

fn standby() -> Machine {
    let engine = Arc::new(MemoryEngine::new());
    let mut import = Import::new(engine.clone(), 1, 0);
    import.standby();
    // In the source's snapshot a part of its time was over; meanwhile it was renewed.
    let checkpointed = LeaseRow {
        id: 9,
        ttl: 3600,
        remaining_ttl: 20,
        granted: 5,
    };
    import.lease(checkpointed).unwrap();
    let genesis = Genesis {
        cluster_id: ClusterId(77),
        members: vec![member(1), member(2), member(3)],
        mark: AppliedMark {
            index: 1,
            term: 1,
            conf_state: Some(conf_state()),
            hash: None,
        },
    };
    let end = ImportEnd {
        genesis,
        revision: 1,
        compacted: -1,
    };
    import.finish(end).unwrap();
    let state = StateMachine::open(engine.clone(), Limits::default());
    Machine {
        state: state.unwrap().expect("a state"),
        engine,
        log: Vec::new(),
    }
}

fn change(key: &'static str, value: Option<&'static str>, lease: i64) -> ReplicatedChange {
    ReplicatedChange {
        key: key.into(),
        value: value.unwrap_or_default().into(),
        lease,
        deletes: value.is_none(),
    }
}

fn revisions(after: i64, revisions: Vec<Vec<ReplicatedChange>>) -> Replicate {
    let revisions = revisions.into_iter();
    Replicate {
        after,
        revisions: revisions
            .map(|changes| ReplicatedRevision { changes })
            .collect(),
        ..Replicate::default()
    }
}

/// The hash, the compaction, and the revision.
fn hash(machine: &Machine) -> (u32, i64, i64) {
    let hash = machine.state.view().hash_kv(0).unwrap();
    let revision = machine.state.view().revision();
    (hash.hash, hash.compact_revision, revision)
}

#[test]
fn the_same_changes_make_the_same_rows() {
    let mut source = Machine::new();
    source.apply(grant(7, 60)).unwrap();
    source.put(put("a", "1")).unwrap();
    let leased = PutRequest {
        lease: 7,
        ..put("a", "2")
    };
    source.put(leased).unwrap();
    source.put(put("b", "3")).unwrap();
    source.delete(DeleteRangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..DeleteRangeRequest::default()
    });
    source.put(put("a", "4")).unwrap();

    let mut machine = standby();
    let mut first = revisions(
        1,
        vec![
            vec![change("a", Some("1"), 0)],
            vec![change("a", Some("2"), 7)],
            vec![change("b", Some("3"), 0)],
        ],
    );
    first.leases = vec![ReplicatedLease { id: 7, ttl: 60 }];
    machine.apply(Op::Replicate(first.clone())).unwrap();
    assert_eq!(machine.state.view().lease_keys(7), ["a"]);
    // Its outcome was unknown: it is repeated, and changes nothing.
    let once = hash(&machine);
    machine.apply(Op::Replicate(first)).unwrap();
    assert_eq!(hash(&machine), once);
    // The proposal of unknown outcome was a part of this one.
    let longer = revisions(
        2,
        vec![
            vec![change("a", Some("2"), 7)],
            vec![change("b", Some("3"), 0)],
        ],
    );
    machine.apply(Op::Replicate(longer)).unwrap();
    assert_eq!(hash(&machine), once);
    let deletion = vec![change("a", None, 0), change("b", None, 0)];
    let second = revisions(
        3,
        vec![
            vec![change("b", Some("3"), 0)],
            deletion,
            vec![change("a", Some("4"), 0)],
        ],
    );
    machine.apply(Op::Replicate(second)).unwrap();
    assert_eq!(hash(&machine), hash(&source));
}

#[test]
fn a_lease_that_is_gone_leaves_its_keys_to_the_revisions() {
    let mut machine = standby();
    let mut first = revisions(1, vec![vec![change("a", Some("1"), 7)]]);
    first.leases = vec![ReplicatedLease { id: 7, ttl: 60 }];
    machine.apply(Op::Replicate(first)).unwrap();
    let gone = |after| Replicate {
        after,
        gone: vec![7, 8],
        ..Replicate::default()
    };
    let before = hash(&machine);
    machine.apply(Op::Replicate(gone(1))).unwrap();
    assert!(machine.state.view().lease(7).is_some(), "of another time");
    machine.apply(Op::Replicate(gone(2))).unwrap();
    assert_eq!(machine.state.view().lease(7), None);
    assert_eq!(hash(&machine), before);
    let second = revisions(2, vec![vec![change("a", None, 0)]]);
    machine.apply(Op::Replicate(second)).unwrap();
    assert_eq!(machine.state.view().revision(), 3);
}

#[test]
fn a_lease_of_the_snapshot_has_its_whole_time() {
    let machine = standby();
    let lease = machine.state.view().lease(9).expect("it is there");
    assert_eq!((lease.ttl, lease.remaining), (3600, 0));
}

/// Member 1 states what it can apply.
fn publish(machine: &mut Machine, command_version: u32) {
    let attributes = MemberAttributes {
        member_id: 1,
        name: "other".to_owned(),
        command_version,
        ..MemberAttributes::default()
    };
    machine.apply(Op::MemberAttributes(attributes)).unwrap();
}

/// Members of the release before count changes of members in the tree's index. Its part of the
/// hash would differ for good.
#[test]
fn the_index_of_its_v2_tree_moves_as_in_the_oldest_of_its_members() {
    let mut machine = standby();
    publish(&mut machine, COMMAND_VERSION - 1);
    let before = machine.state.view().tree_index();
    publish(&mut machine, COMMAND_VERSION - 1);
    assert_eq!(machine.state.view().tree_index(), before + 1);
    publish(&mut machine, COMMAND_VERSION);
    let before = machine.state.view().tree_index();
    publish(&mut machine, COMMAND_VERSION);
    assert_eq!(machine.state.view().tree_index(), before);
}

#[test]
fn the_index_of_its_v2_tree_is_the_source_s() {
    let mut machine = standby();
    let tree = |after, index| Replicate {
        tree: Some(ReplicatedTree {
            after,
            index,
            nodes: vec![TreeEventNode {
                key: "/1/a".into(),
                value: Some("x".into()),
                expires_ns: 1,
                created: 4,
                modified: 4,
                ..TreeEventNode::default()
            }],
            ..ReplicatedTree::default()
        }),
        ..Replicate::default()
    };
    let before = machine.state.view().tree_index();
    machine.apply(Op::Replicate(tree(before, 40))).unwrap();
    machine.apply(Op::Replicate(tree(before, 50))).unwrap();
    publish(&mut machine, COMMAND_VERSION);
    let expire = TreeExpire {
        time_ns: i64::MAX,
        ..TreeExpire::default()
    };
    let refused = machine.apply(Op::TreeExpire(expire));
    assert_eq!(refused.err(), Some(Error::Standby));
    machine.flush();
    for state in [
        machine.state.view(),
        StateMachine::open(machine.engine, Limits::default())
            .unwrap()
            .expect("a state")
            .view(),
    ] {
        assert_eq!(state.tree_index(), 40);
        assert!(state.tree_get(b"/1/a", false, 0).is_ok());
    }
}

#[test]
fn it_takes_no_other_changes_until_it_is_opened() {
    let mut machine = standby();
    assert_eq!(machine.put(put("a", "1")).err(), Some(Error::Standby));
    assert_eq!(machine.apply(grant(7, 5)).err(), Some(Error::Standby));
    assert_eq!(machine.apply(revoke(7)).err(), Some(Error::Standby));
    // Also after a restart.
    let engine = Arc::clone(&machine.engine);
    let reopened = StateMachine::open(engine, Limits::default()).unwrap();
    assert!(reopened.expect("a state").view().is_standby());
    let at = |after| Replicate {
        after,
        open: true,
        ..Replicate::default()
    };
    // Opened at another revision it would not have what was compared.
    machine.apply(Op::Replicate(at(0))).unwrap();
    machine.apply(Op::Replicate(at(2))).unwrap();
    assert!(machine.state.view().is_standby());
    let open = at(1);
    machine.apply(Op::Replicate(open.clone())).unwrap();
    assert!(!machine.state.view().is_standby());
    machine.put(put("a", "1")).unwrap();
    let again = machine.apply(Op::Replicate(open));
    assert_eq!(again.err(), Some(Error::NoStandby));
    machine.flush();
    let reopened = StateMachine::open(machine.engine, Limits::default()).unwrap();
    assert!(!reopened.expect("a state").view().is_standby());
}
