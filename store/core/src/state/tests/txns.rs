//! Transactions.

use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::response_op::Response;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use prost::Message;

use super::harness::{Machine, shown};
use super::requests::*;
use crate::state::auth::Caller;
use crate::state::{Error, check};

fn ranges(response: &TxnResponse) -> Vec<Vec<String>> {
    let ranges = response
        .responses
        .iter()
        .filter_map(|op| match &op.response {
            Some(Response::ResponseRange(range)) => Some(shown(&range.kvs)),
            _ => None,
        });
    ranges.collect()
}

fn holds(machine: &mut Machine, compare: Compare) -> bool {
    machine
        .txn(txn(vec![compare], vec![], vec![]))
        .unwrap()
        .succeeded
}

#[test]
fn a_txn_sees_its_own_writes_and_makes_one_revision() {
    let mut machine = Machine::new();
    let request = txn(
        vec![],
        vec![
            op_get(all()),
            op_put("a", "1"),
            op_get(all()),
            op_put("b", "2"),
            op_delete("a", ""),
            op_get(all()),
        ],
        vec![],
    );
    let response = machine.txn(request).unwrap();
    assert_eq!(ranges(&response), [vec![], vec!["a=1"], vec!["b=2"]]);
    assert_eq!(response.header.unwrap().revision, 2);
    let revisions = response.responses.iter().map(|op| match &op.response {
        Some(Response::ResponseRange(response)) => response.header.unwrap().revision,
        Some(Response::ResponsePut(response)) => response.header.unwrap().revision,
        Some(Response::ResponseDeleteRange(response)) => response.header.unwrap().revision,
        _ => unreachable!(),
    });
    assert_eq!(revisions.collect::<Vec<_>>(), [1, 2, 2, 2, 2, 2]);
    assert_eq!(machine.state.view().revision(), 2);
}

#[test]
fn a_txn_that_changes_nothing_leaves_the_revision() {
    let mut machine = Machine::new();
    let request = txn(vec![], vec![op_delete("a", ""), op_get(all())], vec![]);
    let response = machine.txn(request).unwrap();
    assert_eq!(response.header.unwrap().revision, 1);
    assert_eq!(machine.state.view().revision(), 1);
}

#[test]
fn every_target_compares_in_every_way() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let mut machine = Machine::new();
    machine.put(put("x", "")).unwrap();
    machine.put(put("k", "m")).unwrap();
    machine.put(put("k", "m")).unwrap();
    let cases = [
        (Version, TargetUnion::Version as fn(i64) -> TargetUnion, 2),
        (Create, TargetUnion::CreateRevision, 3),
        (Mod, TargetUnion::ModRevision, 4),
        (Lease, TargetUnion::Lease, 0),
    ];
    for (target, union, value) in cases {
        for (operand, expected) in [
            (value - 1, [false, true, false, true]),
            (value, [true, false, false, false]),
            (value + 1, [false, false, true, true]),
        ] {
            let results = [Equal, Greater, Less, NotEqual];
            let got = results.map(|r| holds(&mut machine, when("k", target, r, union(operand))));
            assert_eq!(got, expected, "{target:?} {operand}");
        }
    }
    for (operand, expected) in [
        ("a", [false, true, false, true]),
        ("m", [true, false, false, false]),
        ("z", [false, false, true, true]),
    ] {
        let operand = TargetUnion::Value(bytes(operand));
        let results = [Equal, Greater, Less, NotEqual];
        let got = results.map(|r| holds(&mut machine, when("k", Value, r, operand.clone())));
        assert_eq!(got, expected);
    }
}

#[test]
fn an_absent_key_compares_as_0_and_its_value_never() {
    let mut machine = Machine::new();
    let zero = TargetUnion::Version(0);
    let version = when("k", CompareTarget::Version, CompareResult::Equal, zero);
    assert!(holds(&mut machine, version));
    let value = TargetUnion::Value(bytes("x"));
    for result in [CompareResult::Equal, CompareResult::NotEqual] {
        let compare = when("k", CompareTarget::Value, result, value.clone());
        assert!(!holds(&mut machine, compare));
    }
}

#[test]
fn a_comparison_over_a_range_must_hold_for_every_key() {
    let mut machine = Machine::new();
    machine.put(put("a", "1")).unwrap();
    machine.put(put("b", "1")).unwrap();
    let over = |value: &str, end: &str| Compare {
        range_end: bytes(end),
        ..when(
            "a",
            CompareTarget::Value,
            CompareResult::Equal,
            TargetUnion::Value(bytes(value)),
        )
    };
    assert!(holds(&mut machine, over("1", "c")));
    assert!(holds(&mut machine, over("1", "\0")));
    machine.put(put("b", "2")).unwrap();
    assert!(!holds(&mut machine, over("1", "c")));
    assert!(holds(&mut machine, over("1", "b")));
}

#[test]
fn an_operand_of_another_kind_counts_as_0() {
    let mut machine = Machine::new();
    let compare = when(
        "k",
        CompareTarget::Mod,
        CompareResult::Equal,
        TargetUnion::Version(9),
    );
    assert!(holds(&mut machine, compare));
}

#[test]
fn nested_conditions_are_evaluated_on_the_state_before() {
    let mut machine = Machine::new();
    let absent = || {
        let zero = TargetUnion::Version(0);
        vec![when(
            "k",
            CompareTarget::Version,
            CompareResult::Equal,
            zero,
        )]
    };
    let nested = txn(absent(), vec![op_put("then", "")], vec![op_put("else", "")]);
    let request = txn(absent(), vec![op_put("k", "v"), op_txn(nested)], vec![]);
    let response = machine.txn(request).unwrap();
    assert_eq!(machine.show(&all()), ["k=v", "then="]);
    let Some(Response::ResponseTxn(nested)) = &response.responses[1].response else {
        panic!("{response:?}");
    };
    assert!(nested.succeeded);
    assert_eq!(nested.header.unwrap().revision, 0);
    assert_eq!(machine.state.view().revision(), 2);
}

#[test]
fn one_unreadable_range_aborts_the_whole() {
    let mut machine = Machine::new();
    machine.put(put("a", "1")).unwrap();
    machine.put(put("a", "2")).unwrap();
    machine.compact(3).unwrap();
    let attempt = |revision| {
        let nested = txn(vec![], vec![op_get(at(revision, all()))], vec![]);
        txn(vec![], vec![op_put("b", "1"), op_txn(nested)], vec![])
    };
    assert_eq!(machine.txn(attempt(2)), Err(Error::Compacted));
    // 4 is the transaction's own revision, which does not exist yet when it is checked.
    assert_eq!(machine.txn(attempt(4)), Err(Error::FutureRev));
    assert_eq!(machine.txn(attempt(-1)), Err(Error::Compacted));
    assert_eq!(machine.show(&all()), ["a=2"]);
    assert_eq!(machine.state.view().revision(), 3);
    assert!(machine.txn(attempt(3)).is_ok());
}

#[test]
fn one_impossible_put_aborts_the_whole() {
    let mut machine = Machine::new();
    let touch = PutRequest {
        ignore_value: true,
        ..put("absent", "")
    };
    let touch = op(request_op::Request::RequestPut(touch));
    let request = txn(vec![], vec![op_put("a", "1"), touch], vec![]);
    assert_eq!(machine.txn(request), Err(Error::KeyNotFound));
    assert_eq!(machine.state.view().revision(), 1);
    assert!(machine.show(&all()).is_empty());
}

#[test]
fn only_the_chosen_branch_is_checked() {
    let mut machine = Machine::new();
    let request = txn(vec![], vec![], vec![op_get(at(99, all()))]);
    assert!(machine.txn(request).is_ok());
}

#[test]
fn a_key_put_and_deleted_in_sibling_txns_ends_deleted() {
    let mut machine = Machine::new();
    let first = txn(vec![], vec![op_put("a", "1")], vec![]);
    let second = txn(vec![], vec![op_delete("a", "")], vec![]);
    let request = txn(vec![], vec![op_txn(first), op_txn(second)], vec![]);
    assert_eq!(check::txn(&request, 128), Ok(()));
    machine.txn(request).unwrap();
    assert!(machine.show(&all()).is_empty());
    machine.flush();
    machine.restart();
    assert!(machine.show(&all()).is_empty());
    machine.compact(2).unwrap();
    machine.sweep();
    machine.put(put("a", "2")).unwrap();
    assert_eq!(machine.range(&get("a")).unwrap().kvs[0].version, 1);
}

#[test]
fn a_read_only_txn_reads_one_state() {
    let mut machine = Machine::new();
    machine.put(put("a", "1")).unwrap();
    let request = txn(vec![], vec![op_get(all()), op_get(get("a"))], vec![]);
    assert!(check::is_txn_readonly(&request));
    let response = machine.state.view().txn_read(&request).unwrap();
    assert_eq!(ranges(&response), [["a=1"], ["a=1"]]);
    assert_eq!(response.header.unwrap().revision, 2);
    let future = txn(vec![], vec![op_get(at(3, all()))], vec![]);
    let answer = machine.state.view().txn_read(&future);
    assert_eq!(answer, Err(Error::FutureRev));
    let nested = txn(vec![], vec![op_txn(request)], vec![]);
    assert!(!check::is_txn_readonly(&nested));
}

#[test]
fn size_is_bounded_level_by_level() {
    let wide = txn(vec![], vec![op_get(all()); 3], vec![]);
    assert_eq!(check::txn(&wide, 3), Ok(()));
    assert_eq!(check::txn(&wide, 2), Err(Error::TooManyOps));
    let nested = txn(vec![], vec![op_txn(wide)], vec![]);
    assert_eq!(check::txn(&nested, 4), Ok(()));
    assert_eq!(check::txn(&nested, 3), Err(Error::TooManyOps));
}

/// Transactions nested to a depth of `depth`, in one branch or the other.
fn nested(depth: usize, success: bool) -> TxnRequest {
    let inside = match depth {
        1 => op_put("k", "v"),
        _ => op_txn(nested(depth - 1, success)),
    };
    match success {
        true => txn(vec![], vec![inside], vec![]),
        false => txn(vec![], vec![], vec![inside]),
    }
}

/// A transaction of depth 50 was committed, and then no member could decode it.
#[test]
fn a_txn_that_the_log_cannot_decode_is_refused_before_it_is_proposed() {
    for success in [true, false] {
        for depth in 1..=50 {
            let request = nested(depth, success);
            let sent = TxnRequest::decode(&request.encode_to_vec()[..]);
            assert_eq!(sent.as_ref(), Ok(&request), "gRPC takes {depth}");
            let op = Op::Txn(request.clone());
            let alice = Caller::User {
                name: "alice".to_owned(),
                since: 1,
            };
            for op in [op.clone(), alice.signed(op)] {
                let op = Some(op);
                let logged = Command::decode(&Command { op }.encode_to_vec()[..]);
                match check::txn(&request, 1000) {
                    Ok(()) => assert!(logged.is_ok(), "{depth}: accepted and not understood"),
                    Err(error) => assert_eq!(error, Error::TooManyOps),
                }
            }
        }
        assert_eq!(
            check::txn(&nested(check::TXN_DEPTH_MAX, success), 1000),
            Ok(())
        );
    }
}

#[test]
fn an_empty_operation_is_key_not_found() {
    let request = txn(vec![], vec![RequestOp { request: None }], vec![]);
    assert_eq!(check::txn(&request, 128), Err(Error::KeyNotFound));
}

#[test]
fn no_branch_writes_a_key_twice() {
    let checked = |ops: Vec<RequestOp>| check::txn(&txn(vec![], ops, vec![]), 128);
    let branches = |then, otherwise| op_txn(txn(vec![], then, otherwise));
    let twice = Err(Error::DuplicateKey);
    assert_eq!(checked(vec![op_put("a", ""), op_put("a", "")]), twice);
    assert_eq!(checked(vec![op_put("b", ""), op_delete("a", "c")]), twice);
    assert_eq!(checked(vec![op_put("a", ""), op_delete("a", "")]), twice);
    assert_eq!(checked(vec![op_put("c", ""), op_delete("a", "c")]), Ok(()));
    assert_eq!(
        checked(vec![op_delete("a", "z"), op_delete("b", "c")]),
        Ok(())
    );
    // Nested against outer, and siblings against each other.
    let put_a = || vec![op_put("a", "")];
    assert_eq!(
        checked(vec![op_put("a", ""), branches(put_a(), vec![])]),
        twice
    );
    assert_eq!(
        checked(vec![op_delete("a", ""), branches(vec![], put_a())]),
        twice
    );
    assert_eq!(checked(vec![branches(put_a(), put_a())]), Ok(()));
    let siblings = vec![branches(put_a(), vec![]), branches(vec![], put_a())];
    assert_eq!(checked(siblings), twice);
    let delete_a = || vec![op_delete("a", "b")];
    let siblings = vec![branches(delete_a(), vec![]), branches(put_a(), vec![])];
    assert_eq!(checked(siblings), twice);
    assert_eq!(
        checked(vec![branches(delete_a(), vec![]), op_put("a", "")]),
        twice
    );
}

#[test]
fn a_compacted_revision_in_the_branch_not_taken_is_never_read() {
    let mut machine = Machine::new();
    for value in ["1", "2", "3"] {
        machine.put(put("a", value)).unwrap();
    }
    machine.compact(3).unwrap();
    let request = txn(vec![], vec![], vec![op_get(at(2, get("a")))]);
    let response = machine.state.view().txn_read(&request).unwrap();
    assert!(response.succeeded && response.responses.is_empty());
    let request = txn(vec![], vec![op_get(at(2, get("a")))], vec![]);
    let refused = machine.state.view().txn_read(&request);
    assert_eq!(refused.unwrap_err(), Error::Compacted);
}
