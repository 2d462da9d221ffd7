//! Members, alarms, versions.

use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::member_change::Op as Change;
use keelson_proto::internal::{
    ClusterVersion, Command, MemberAttributes, MemberChange, TreeRequest,
};
use prost::Message;

use super::harness::{Machine, member};
use super::requests::*;
use crate::engine::Engine;
use crate::state::{
    Error, Limits, Response, SnapshotBuilder, StateError, StateMachine, is_understood,
};
use crate::{Committed, ConfOutcome, MemberId};

pub(super) fn change(op: Change) -> MemberChange {
    MemberChange { op: Some(op) }
}

fn alarm(action: alarm_request::AlarmAction, member_id: u64, alarm: AlarmType) -> Op {
    Op::Alarm(AlarmRequest {
        action: action as i32,
        member_id,
        alarm: alarm as i32,
    })
}

fn ids(machine: &Machine) -> Vec<u64> {
    let members = machine.state.view().members();
    members.iter().map(|member| member.id).collect()
}

#[test]
fn members_come_and_go_and_never_come_back() {
    let mut machine = Machine::new();
    let mut learner = member(4);
    learner.is_learner = true;
    machine.change(change(Change::Add(learner)), true).unwrap();
    machine.change(change(Change::Promote(4)), true).unwrap();
    machine.change(change(Change::Remove(2)), true).unwrap();
    let mut moved = member(3);
    moved.peer_ur_ls = vec!["http://elsewhere:2380".into()];
    machine.change(change(Change::Update(moved)), true).unwrap();
    let attributes = |member_id| {
        Op::MemberAttributes(MemberAttributes {
            member_id,
            name: "four".into(),
            client_urls: vec!["http://4:2379".into()],
            command_version: 2,
        })
    };
    machine.apply(attributes(4)).unwrap();
    machine.apply(attributes(2)).unwrap();
    let version = ClusterVersion {
        version: "3.4.0".into(),
    };
    machine.apply(Op::ClusterVersion(version)).unwrap();
    for flushed in [false, true] {
        let view = machine.state.view();
        assert_eq!(ids(&machine), [1, 3, 4]);
        assert!(view.removed(2) && !view.removed(1));
        let four = view.member(4).unwrap();
        assert!(!four.is_learner && four.name == "four");
        let three = view.member(3).unwrap();
        assert_eq!(three.peer_ur_ls, ["http://elsewhere:2380"]);
        assert_eq!(view.cluster_version().unwrap(), "3.4.0");
        assert_eq!(view.revision(), 1);
        if flushed {
            machine.flush();
        }
        machine.restart();
    }
}

#[test]
fn an_invalidated_change_changes_nothing_and_returns_the_reason() {
    let mut machine = Machine::new();
    machine.change(change(Change::Remove(3)), true).unwrap();
    let refused = |machine: &mut Machine, op| machine.change(change(op), false).unwrap_err();
    let cases = [
        (Change::Add(member(1)), Error::MemberExist),
        (Change::Add(member(3)), Error::MemberNotFound),
        (Change::Remove(9), Error::MemberNotFound),
        (Change::Promote(1), Error::MemberNotLearner),
    ];
    for (op, expected) in cases {
        assert_eq!(refused(&mut machine, op), expected);
    }
    let mut twin = member(9);
    twin.peer_ur_ls = member(1).peer_ur_ls;
    assert_eq!(
        refused(&mut machine, Change::Add(twin)),
        Error::PeerUrlExist
    );
    assert_eq!(ids(&machine), [1, 2]);
}

#[test]
fn nospace_stops_growth_and_nothing_else() {
    use alarm_request::AlarmAction::{Activate, Deactivate, Get};
    let mut machine = Machine::new();
    machine.put(put("a", "1")).unwrap();
    let raise = alarm(Activate, 1, AlarmType::Nospace);
    let Response::Alarm(answer) = machine.apply(raise.clone()).unwrap() else {
        panic!("not an alarm response");
    };
    assert_eq!(answer.alarms.len(), 1);
    machine.apply(raise).unwrap();
    machine
        .apply(alarm(Activate, 2, AlarmType::Nospace))
        .unwrap();
    assert_eq!(machine.state.view().alarms().len(), 2);

    assert_eq!(machine.put(put("b", "1")), Err(Error::NoSpace));
    let hidden = txn(vec![], vec![], vec![op_put("b", "1")]);
    let nested = txn(vec![], vec![op_txn(hidden)], vec![]);
    assert_eq!(machine.txn(nested), Err(Error::NoSpace));
    assert!(
        machine
            .txn(txn(vec![], vec![op_delete("a", "")], vec![]))
            .is_ok()
    );
    assert!(machine.compact(2).is_ok());

    machine.flush();
    machine.restart();
    machine
        .apply(alarm(Deactivate, 1, AlarmType::Nospace))
        .unwrap();
    assert_eq!(machine.put(put("b", "1")), Err(Error::NoSpace));
    machine
        .apply(alarm(Deactivate, 2, AlarmType::Nospace))
        .unwrap();
    assert!(machine.put(put("b", "1")).is_ok());
    let Response::Alarm(answer) = machine.apply(alarm(Get, 0, AlarmType::None)).unwrap() else {
        panic!("not an alarm response");
    };
    assert!(answer.alarms.is_empty());
}

#[test]
fn corrupt_stops_every_change() {
    use alarm_request::AlarmAction::{Activate, Deactivate};
    let mut machine = Machine::new();
    machine
        .apply(alarm(Activate, 1, AlarmType::Nospace))
        .unwrap();
    machine
        .apply(alarm(Activate, 1, AlarmType::Corrupt))
        .unwrap();
    assert_eq!(machine.put(put("a", "")), Err(Error::Corrupt));
    assert_eq!(machine.compact(1), Err(Error::Corrupt));
    let delete = Op::DeleteRange(delete("a", ""));
    assert_eq!(machine.apply(delete), Err(Error::Corrupt));
    machine
        .apply(alarm(Deactivate, 1, AlarmType::Corrupt))
        .unwrap();
    assert_eq!(machine.put(put("a", "")), Err(Error::NoSpace));
}

#[test]
fn the_quota_counts_what_is_not_flushed_yet() {
    let mut machine = Machine::new();
    let limits = Limits { quota_bytes: 2000 };
    machine.state = StateMachine::open(machine.engine.clone(), limits)
        .unwrap()
        .unwrap();
    let view = machine.state.view();
    assert!(view.has_room(256) && !view.has_room(2000));
    machine.put(put("k", &"v".repeat(1700))).unwrap();
    assert!(!view.has_room(256) && view.has_room(0));
    machine.flush();
    assert!(!view.has_room(256) && view.has_room(0));
}

#[test]
fn the_v2_tree_goes_on_beyond_the_quota() {
    let mut machine = Machine::new();
    let limits = Limits { quota_bytes: 2000 };
    machine.state = StateMachine::open(machine.engine.clone(), limits)
        .unwrap()
        .unwrap();
    machine.put(put("k", &"v".repeat(1700))).unwrap();
    let view = machine.state.view();
    assert!(!view.has_room(256) && view.has_tree_room(256));
    // One and a half times the quota plus the history, although the quota is far below the default.
    let beyond = 2000 + crate::tree::HISTORY_BYTES_MAX;
    assert!(!view.has_tree_room(beyond) && view.has_tree_room(0));
}

fn entry(kind: crate::EntryKind, index: u64, command: &[u8]) -> crate::Entry {
    crate::Entry {
        index: crate::Index(index),
        term: crate::Term(1),
        kind,
        data: crate::proposal::encode(super::harness::OURS, command),
        context: bytes::Bytes::new(),
    }
}

/// Commands as newer releases could write them. They are: bytes that are not a message; a kind
/// without a number here; an unknown change of the v2 tree; a transaction with an unknown operation
/// deep inside.
fn newer() -> [Vec<u8>; 4] {
    let tree = TreeRequest {
        op: 99,
        path: bytes("/1/a"),
        ..TreeRequest::default()
    };
    let tree = Command {
        op: Some(Op::Tree(tree)),
    };
    let unknown_kind = vec![0xf2, 0x3f, 0x02, 0x08, 0x01];
    assert_eq!(Command::decode(&unknown_kind[..]), Ok(Command { op: None }));
    let unknown_operation = TxnRequest {
        failure: vec![RequestOp { request: None }],
        ..TxnRequest::default()
    };
    let txn = TxnRequest {
        success: vec![RequestOp {
            request: Some(request_op::Request::RequestTxn(unknown_operation)),
        }],
        ..TxnRequest::default()
    };
    let txn = Command {
        op: Some(Op::Txn(txn)),
    };
    let messages = [tree, txn].map(|command| command.encode_to_vec());
    let [tree, txn] = messages;
    [vec![0xff, 0xff], unknown_kind, tree, txn]
}

/// It was skipped and counted as applied: after an upgrade the member differed from the others.
#[test]
fn a_member_stops_before_a_command_of_a_newer_release() {
    for command in newer() {
        let mut machine = Machine::new();
        machine.put(put("k", "v")).unwrap();
        let before = machine.state.applied();
        let tree_index = machine.state.view().tree_index();
        let entry = entry(crate::EntryKind::Command, 2, &command);
        let stopped = machine.state.apply(&Committed { entry, conf: None }, true);
        let text = stopped.unwrap_err().to_string();
        assert!(text.contains("entry 2") && text.contains("Upgrade this member"));
        assert_eq!(machine.state.applied(), before);
        assert_eq!(machine.state.view().applied_index(), crate::Index(1));
        assert_eq!(machine.state.view().tree_index(), tree_index);
        assert!(!is_understood(&command.into()));
        // A flush then ends before it as well: the next release begins with that entry.
        machine.flush();
        machine.restart();
        assert_eq!(machine.state.applied(), before);
        machine
            .put(put("k", "what the newer release makes of it"))
            .unwrap();
        assert_eq!(machine.state.applied().index, 2);
    }
}

#[test]
fn a_member_stops_before_a_membership_change_of_a_newer_release() {
    let mut machine = Machine::new();
    let conf = ConfOutcome {
        id: super::harness::OURS,
        change: Some(MemberChange { op: None }),
        accepted: false,
        conf_state: super::harness::conf_state(),
    };
    let entry = entry(crate::EntryKind::Membership, 1, b"");
    let committed = Committed {
        entry,
        conf: Some(conf),
    };
    let stopped = machine.state.apply(&committed, true);
    assert!(matches!(
        stopped,
        Err(StateError::NotUnderstood { index: 1 })
    ));
    assert_eq!(machine.state.applied().index, 0);
}

#[test]
fn what_members_understand_survives_restarts_and_snapshots() {
    let publish = |member_id, command_version| {
        Op::MemberAttributes(MemberAttributes {
            member_id,
            command_version,
            name: "started".to_owned(),
            ..MemberAttributes::default()
        })
    };
    let mut machine = Machine::new();
    for (member, version) in [(1, 3), (2, 2), (3, 0)] {
        machine.apply(publish(member, version)).unwrap();
    }
    assert_eq!(machine.state.view().command_version(), 1);
    machine.apply(publish(3, 4)).unwrap();
    assert_eq!(machine.state.view().command_version(), 2);
    let fresh = std::sync::Arc::new(crate::engine::MemoryEngine::new());
    let capture = machine.state.capture().unwrap();
    super::snapshots::install_into(fresh.clone(), capture, 100);
    let copy = StateMachine::open(fresh, Limits::default()).unwrap();
    assert_eq!(copy.unwrap().view().command_version(), 2);
    for flushed in [false, true] {
        assert_eq!(machine.state.view().command_version_of(3), 4);
        if !flushed {
            machine.flush();
            machine.restart();
        }
    }
    // The oldest member is removed; then an older release replaces a newer one.
    machine.change(change(Change::Remove(2)), true).unwrap();
    assert_eq!(machine.state.view().command_version(), 3);
    machine.apply(publish(1, 0)).unwrap();
    machine.flush();
    machine.restart();
    assert_eq!(machine.state.view().command_version(), 1);
}

#[test]
fn a_layout_of_a_newer_release_is_refused_with_the_remedy() {
    let machine = Machine::new();
    let capture = machine.state.capture().unwrap();
    let (mut rows, _) = super::snapshots::parts(capture, usize::MAX);
    let marks = rows.iter_mut().find(|rows| rows.table == 1).unwrap();
    let format = marks.rows.iter_mut().find(|row| row.key == "format");
    format.unwrap().value = bytes::Bytes::copy_from_slice(&4i64.to_be_bytes());
    let engine = std::sync::Arc::new(crate::engine::MemoryEngine::new());
    let mut builder = SnapshotBuilder::new(engine);
    let refused = rows.into_iter().find_map(|part| builder.push(part).err());
    assert!(refused.unwrap().to_string().contains("Upgrade this member"));
    let mut batch = crate::engine::WriteBatch::default();
    let row = 4i64.to_be_bytes().to_vec();
    batch.put(crate::engine::Table::Meta, bytes("format"), row);
    machine.engine.write(&batch).unwrap();
    let refused = StateMachine::open(machine.engine.clone(), Limits::default());
    assert!(matches!(
        refused,
        Err(StateError::Newer {
            format: 4,
            known: 3
        })
    ));
}

/// `--force-new-cluster` removed all other members, and the cluster was left without any.
#[test]
fn a_member_that_was_removed_does_not_go_on_alone() {
    let mut machine = Machine::new();
    machine.change(change(Change::Remove(3)), true).unwrap();
    machine.flush();
    let Machine { state, engine, .. } = machine;
    let refused =
        state.force_new_cluster(engine.clone(), MemberId(3), Vec::new(), Limits::default());
    let text = refused.err().expect("a refusal").to_string();
    assert!(text.contains("member 3 was removed"), "{text}");
    let kept = StateMachine::open(engine, Limits::default()).unwrap();
    assert_eq!(kept.expect("a state").view().members().len(), 2);
}

/// `--force-new-cluster` made the learner a voter in consensus, but not in the list of members.
#[test]
fn a_learner_that_goes_on_alone_is_a_voter() {
    let mut machine = Machine::new();
    let mut learner = member(4);
    learner.is_learner = true;
    machine.change(change(Change::Add(learner)), true).unwrap();
    let Machine { state, engine, .. } = machine;
    let alone = state.force_new_cluster(engine, MemberId(4), Vec::new(), Limits::default());
    let alone = alone.unwrap();
    let members = alone.view().members();
    assert_eq!(members.len(), 1);
    assert!(members[0].id == 4 && !members[0].is_learner);
    assert_eq!(alone.applied().conf_state.unwrap().voters, [4]);
}
