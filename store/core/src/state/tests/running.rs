//! The running hash: what counts in it, how it is kept, and the fence of a member that differs.

use keelson_proto::internal::command::Op;
use keelson_proto::internal::hash_check::Step;
use keelson_proto::internal::{AppliedHash, HashCheck, MemberAttributes, TreeRequest};

use super::harness::{Machine, member};
use super::requests::*;
use super::snapshots::{install, parts};
use crate::state::*;
use keelson_proto::etcdserverpb::*;

fn check(step: Step, index: u64, value: u64) -> Op {
    Op::HashCheck(HashCheck {
        step: step.into(),
        scheme: HASH_SCHEME,
        index,
        value,
    })
}

fn hash(machine: &Machine) -> Option<AppliedHash> {
    machine.state.applied().hash
}

fn value(machine: &Machine) -> u64 {
    hash(machine).expect("it is known").value
}

/// A machine whose hash has begun, with a pair and a lease.
fn begun() -> Machine {
    let mut machine = Machine::new();
    assert_eq!(hash(&machine), None);
    machine.apply(check(Step::Begin, 0, 0)).unwrap();
    machine.put(put("k", "v")).unwrap();
    machine.apply(grant(7, 60)).unwrap();
    machine
}

fn tree(path: &str, value: &str) -> Op {
    Op::Tree(TreeRequest {
        path: path.to_owned().into(),
        value: value.to_owned().into(),
        ..TreeRequest::default()
    })
}

fn attributes(name: &str) -> Op {
    Op::MemberAttributes(MemberAttributes {
        member_id: 1,
        name: name.to_owned(),
        ..MemberAttributes::default()
    })
}

/// An entry at one index has another effect: the hashes differ from there on.
#[test]
fn every_kind_of_change_counts() {
    let alarm = |alarm: AlarmType| {
        Op::Alarm(AlarmRequest {
            action: alarm_request::AlarmAction::Activate.into(),
            member_id: 1,
            alarm: alarm.into(),
        })
    };
    let compact = |revision| Op::Compaction(compaction(revision));
    let leased = |lease| {
        Op::Put(PutRequest {
            lease,
            ..put("l", "v")
        })
    };
    let pairs = [
        (Op::Put(put("k", "a")), Op::Put(put("k", "b"))),
        (Op::Put(put("k", "a")), Op::Put(put("j", "a"))),
        (leased(7), leased(0)),
        (
            Op::DeleteRange(delete("k", "")),
            Op::DeleteRange(delete("x", "")),
        ),
        (grant(8, 60), grant(8, 61)),
        (grant(8, 60), grant(9, 60)),
        (compact(2), compact(1)),
        (tree("/1/a", "a"), tree("/1/a", "b")),
        (alarm(AlarmType::Nospace), alarm(AlarmType::Corrupt)),
        (attributes("a"), attributes("b")),
    ];
    for (right, wrong) in pairs {
        let (mut one, mut other) = (begun(), begun());
        assert_eq!(hash(&one), hash(&other));
        one.apply(right.clone()).unwrap();
        other.apply(wrong).unwrap();
        assert_ne!(value(&one), value(&other), "{right:?}");
        let _ = one.put(put("after", ""));
        let _ = other.put(put("after", ""));
        assert_ne!(value(&one), value(&other), "{right:?}");
    }
}

/// If this number changes, `HASH_SCHEME` must: members of two releases would fence each other.
#[test]
fn the_hash_of_a_history_stays_the_same() {
    let mut machine = begun();
    machine.apply(tree("/1/a", "a")).unwrap();
    machine.apply(attributes("one")).unwrap();
    machine.delete(delete("k", ""));
    machine.apply(Op::Compaction(compaction(2))).unwrap();
    let change = keelson_proto::internal::member_change::Op::Add(member(9));
    let change = keelson_proto::internal::MemberChange { op: Some(change) };
    machine.change(change, true).unwrap();
    assert_eq!(
        (HASH_SCHEME, value(&machine)),
        (1, 5_111_087_359_518_411_014)
    );
}

#[test]
fn the_hash_goes_on_after_a_restart_and_in_a_snapshot() {
    let mut machine = begun();
    machine.apply(check(Step::Compare, 0, 0)).unwrap();
    machine.flush();
    machine.put(put("k", "w")).unwrap();
    let expected = hash(&machine);
    machine.restart();
    assert_eq!(hash(&machine), expected);
    machine.flush();
    machine.restart();
    assert_eq!(hash(&machine), expected);
    let (rows, end) = parts(machine.state.capture().unwrap(), 100);
    let received = install(rows, end).expect("a sound snapshot");
    assert_eq!(received.applied().hash, expected);
}

/// What is in the engine counts and not how: the work of flushes and compactions is each member's
/// own.
#[test]
fn the_hash_does_not_depend_on_flushes_and_sweeps() {
    let (mut one, mut other) = (begun(), begun());
    for machine in [&mut one, &mut other] {
        machine.put(put("k", "w")).unwrap();
        machine.compact(3).unwrap();
        machine.apply(tree("/1/a", "a")).unwrap();
    }
    one.flush();
    one.sweep();
    one.flush();
    for machine in [&mut one, &mut other] {
        machine.put(put("k", "x")).unwrap();
    }
    assert_eq!(hash(&one), hash(&other));
}

#[test]
fn a_member_that_differs_serves_no_client_until_its_state_is_replaced() {
    let mut machine = begun();
    let before = value(&machine);
    machine.apply(check(Step::Compare, 0, 0)).unwrap();
    let compared = machine.state.applied().index;
    machine
        .apply(check(Step::Verdict, compared, before))
        .unwrap();
    // About a comparison that is not remembered, and of another scheme.
    machine.apply(check(Step::Verdict, 1, 5)).unwrap();
    let other = HashCheck {
        step: Step::Verdict.into(),
        scheme: HASH_SCHEME + 1,
        index: compared,
        value: 5,
    };
    machine.apply(Op::HashCheck(other)).unwrap();
    assert_eq!(machine.state.divergence(), None);
    let view = machine.state.view();
    let read = range("k", "");
    assert!(view.range(&read).is_ok());
    machine.apply(check(Step::Verdict, compared, 5)).unwrap();
    let divergence = machine.state.divergence().expect("it differs");
    assert_eq!((divergence.own, divergence.agreed), (before, 5));
    assert_eq!(view.range(&read), Err(Error::Corrupt));
    assert!(view.tree_get(b"/", false, 0).is_err());
    // A restart is no remedy.
    machine.flush();
    machine.restart();
    assert_eq!(machine.state.divergence(), Some(divergence));
    assert_eq!(machine.state.view().range(&read), Err(Error::Corrupt));
}

/// Without it a verdict after the restart would find nothing to compare.
#[test]
fn a_verdict_finds_the_comparison_of_before_a_restart() {
    let mut machine = begun();
    machine.apply(check(Step::Compare, 0, 0)).unwrap();
    let compared = machine.state.applied().index;
    machine.flush();
    machine.restart();
    machine.apply(check(Step::Verdict, compared, 5)).unwrap();
    assert!(machine.state.divergence().is_some());
}

#[test]
fn a_hash_of_another_scheme_is_not_known() {
    let mut machine = begun();
    let begin = HashCheck {
        step: Step::Begin.into(),
        scheme: HASH_SCHEME + 1,
        ..HashCheck::default()
    };
    machine.apply(Op::HashCheck(begin)).unwrap();
    assert_eq!(hash(&machine), None);
    machine.apply(check(Step::Compare, 0, 0)).unwrap();
    assert_eq!(hash(&machine), None);
    machine.apply(check(Step::Begin, 0, 0)).unwrap();
    assert!(hash(&machine).is_some());
}
