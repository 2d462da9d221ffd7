//! The requests that each role permits while auth is enabled.

use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;

use super::auth_rules::*;
use super::harness::Machine;
use super::requests::{self, *};
use crate::engine::{Engine, Table};
use crate::state::auth::{Access, Caller, Duty};
use crate::state::*;

fn user() -> Caller {
    Caller::User {
        name: "u".into(),
        since: 0,
    }
}

fn as_user(op: Op) -> Op {
    as_caller("u", 0, op)
}

fn as_caller(user: &str, since: u64, op: Op) -> Op {
    let name = user.to_owned();
    Caller::User { name, since }.signed(op)
}

/// As the program that embeds the store.
fn own(machine: &mut Machine, op: Op) {
    machine.apply(Caller::Member.signed(op)).unwrap();
}

/// Whether the user `u` may do it, at the edge and when it is applied.
fn permitted(machine: &mut Machine, op: Op) -> bool {
    let before = machine
        .state
        .view()
        .authorize(&user(), Access::Command(&op));
    let applied = machine.apply(as_user(op));
    let refused = applied == Err(Error::PermissionDenied);
    assert_eq!(refused, before == Err(Error::PermissionDenied));
    !refused
}

/// `u` may read `[a, c)` and `e`, and write `[b, d)`.
fn with_rights() -> Machine {
    let mut machine = Machine::with_auth();
    machine.auth(permit("r", Type::Read, "a", "c")).unwrap();
    machine.auth(permit("r", Type::Write, "b", "d")).unwrap();
    machine.auth(permit("r", Type::Read, "e", "")).unwrap();
    machine
}

fn reads(machine: &Machine, key: &str, end: &str) -> bool {
    let access = requests::range(key, end);
    let view = machine.state.view();
    view.authorize(&user(), Access::Range(&access)).is_ok()
}

fn txn(ops: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success: ops,
        ..TxnRequest::default()
    }
}

#[test]
fn keys_outside_of_the_permissions_cannot_be_read_or_written() {
    let mut machine = with_rights();
    for (key, end, may) in [
        ("a", "", true),
        ("a", "c", true),
        ("a", "d", false),
        ("c", "", false),
        ("e", "", true),
        ("e", "f", false),
        ("b", "\0", false),
        ("\0", "\0", false),
        ("b", "a", true),
    ] {
        assert_eq!(reads(&machine, key, end), may, "{key} {end}");
    }
    assert!(permitted(&mut machine, Op::Put(put("c", "x"))));
    assert!(!permitted(&mut machine, Op::Put(put("a", "x"))));
    let seeing = |key| PutRequest {
        prev_kv: true,
        ..put(key, "x")
    };
    assert!(permitted(&mut machine, Op::Put(seeing("b"))));
    assert!(!permitted(&mut machine, Op::Put(seeing("c"))));
    assert!(permitted(&mut machine, Op::DeleteRange(delete("b", "d"))));
    assert!(!permitted(&mut machine, Op::DeleteRange(delete("b", "\0"))));
    let all = DeleteRangeRequest {
        prev_kv: true,
        ..delete("b", "d")
    };
    assert!(!permitted(&mut machine, Op::DeleteRange(all)));
}

/// CVE-2026-33343: etcd did not check nested transactions.
#[test]
fn nested_transactions_and_comparisons_are_checked() {
    let mut machine = with_rights();
    let mut try_op = |op: RequestOp| {
        let plain = permitted(&mut machine, Op::Txn(txn(vec![op.clone()])));
        let nested = txn(vec![op_txn(txn(vec![op.clone()]))]);
        assert_eq!(permitted(&mut machine, Op::Txn(nested)), plain);
        let failure = TxnRequest {
            failure: vec![op],
            ..TxnRequest::default()
        };
        assert_eq!(permitted(&mut machine, Op::Txn(failure)), plain);
        plain
    };
    assert!(try_op(op_put("b", "x")));
    assert!(!try_op(op_put("a", "x")));
    assert!(try_op(op_get(get("a"))));
    assert!(!try_op(op_get(get("c"))));
    assert!(try_op(op_delete("b", "d")));
    assert!(!try_op(op_delete("a", "d")));
    let comparing = |key: &str, end: &str| TxnRequest {
        compare: vec![Compare {
            key: bytes(key),
            range_end: bytes(end),
            ..Compare::default()
        }],
        ..TxnRequest::default()
    };
    let mut machine = with_rights();
    assert!(permitted(&mut machine, Op::Txn(comparing("a", "c"))));
    assert!(!permitted(&mut machine, Op::Txn(comparing("a", "d"))));
    let nested = txn(vec![op_txn(comparing("c", ""))]);
    assert!(!permitted(&mut machine, Op::Txn(nested)));
    let read = txn(vec![op(Request::RequestRange(get("c")))]);
    let view = machine.state.view();
    assert!(view.authorize(&user(), Access::Txn(&read)).is_err());
}

/// GHSA-xg4h-6gfc-h4m8: etcd took a watch of everything from a key for one of the key.
#[test]
fn an_open_range_cannot_be_watched_with_a_permission_for_its_first_key() {
    let machine = with_rights();
    let watches = |key: &str, end: &str| {
        let request = WatchCreateRequest {
            key: bytes(key),
            range_end: bytes(end),
            ..WatchCreateRequest::default()
        };
        let view = machine.state.view();
        view.authorize(&user(), Access::watch(&request)).is_ok()
    };
    assert!(watches("a", "") && watches("a", "c"));
    assert!(!watches("a", "\0") && !watches("e", "\0") && !watches("", "\0"));
}

#[test]
fn keys_of_other_users_protect_their_lease() {
    let mut machine = with_rights();
    own(&mut machine, requests::grant(7, 60));
    let leased = |key| PutRequest {
        lease: 7,
        ..put(key, "x")
    };
    let times = LeaseTimeToLiveRequest { id: 7, keys: true };
    let sees = |machine: &Machine| {
        let view = machine.state.view();
        let times = view.authorize(&user(), Access::LeaseTimes(&times)).is_ok();
        let list = view.authorize(&user(), Access::Leases).is_ok();
        assert_eq!(times, list);
        times
    };
    assert!(sees(&machine));
    assert!(permitted(&mut machine, Op::Put(leased("b"))));
    assert!(sees(&machine));
    own(&mut machine, Op::Put(leased("other")));
    assert!(!sees(&machine));
    assert!(!permitted(&mut machine, Op::Put(leased("b"))));
    let nested = op(Request::RequestPut(leased("b")));
    assert!(!permitted(&mut machine, Op::Txn(txn(vec![nested]))));
    assert!(!permitted(&mut machine, requests::revoke(7)));
    own(&mut machine, Op::DeleteRange(delete("other", "")));
    assert!(permitted(&mut machine, requests::revoke(7)));
}

#[test]
fn what_only_root_may_do_is_refused_to_others() {
    let mut machine = with_rights();
    let alarm = |action: AlarmAction| {
        Op::Alarm(AlarmRequest {
            action: action.into(),
            ..AlarmRequest::default()
        })
    };
    let root_only = [
        Op::Compaction(compaction(1)),
        alarm(AlarmAction::Activate),
        alarm(AlarmAction::Deactivate),
        auth(user_add("w")),
        auth(enable()),
        auth(disable()),
        auth(password("u", "x")),
        auth(grant_role("u", "root")),
        auth(role_add("t")),
        auth(permit("r", Type::Write, "z", "")),
        expire(1, vec![]),
    ];
    for op in root_only {
        assert!(!permitted(&mut machine, op.clone()), "{op:?}");
        machine
            .apply(as_caller("root", 0, op))
            .map_or_else(|error| assert_ne!(error, Error::PermissionDenied), drop);
        machine = with_rights();
    }
    assert!(permitted(&mut machine, alarm(AlarmAction::Get)));
    let view = machine.state.view();
    let may = |access: Access<'_>| view.authorize(&user(), access).is_ok();
    assert!(may(Access::AnyUser) && may(Access::UserGet("u")) && may(Access::RoleGet("r")));
    assert!(!may(Access::Root) && !may(Access::UserGet("root")) && !may(Access::RoleGet("root")));
}

#[test]
fn duties_come_with_the_built_in_roles() {
    use Duty::{Backup, Compact, Monitor, Operate};
    let of = [
        ("monitor", vec![Monitor]),
        ("backup", vec![Backup]),
        ("compactor", vec![Compact]),
        ("operator", vec![Monitor, Compact, Operate]),
    ];
    for (role, duties) in of {
        let mut machine = with_rights();
        machine.auth(grant_role("u", role)).unwrap();
        for duty in [Monitor, Backup, Compact, Operate] {
            let view = machine.state.view();
            let may = view.authorize(&user(), Access::Duty(duty)).is_ok();
            assert_eq!(may, duties.contains(&duty), "{role} {duty:?}");
        }
        let may = permitted(&mut machine, Op::Compaction(compaction(1)));
        assert_eq!(may, duties.contains(&Compact));
        assert!(!reads(&machine, "z", ""));
    }
}

#[test]
fn callers_without_a_user_or_with_an_old_token_are_refused() {
    let mut machine = with_rights();
    let view = machine.state.view();
    let read = get("a");
    let check = |caller: Caller| view.authorize(&caller, Access::Range(&read));
    let since = view.auth().user("u").unwrap().since;
    let of = |name: &str, since| Caller::User {
        name: name.into(),
        since,
    };
    assert_eq!(check(Caller::Anonymous), Err(Error::UserEmpty));
    assert_eq!(check(of("absent", 0)), Err(Error::PermissionDenied));
    // The token of a deleted user.
    assert_eq!(check(of("absent", 7)), Err(Error::InvalidAuthToken));
    assert_eq!(check(of("u", since)), Ok(()));
    assert_eq!(check(Caller::Member), Ok(()));
    machine.auth(password("u", "new")).unwrap();
    assert_eq!(check(of("u", since)), Err(Error::InvalidAuthToken));
    let late = as_caller("u", since, Op::Put(put("b", "x")));
    assert_eq!(machine.apply(late), Err(Error::InvalidAuthToken));
    machine.auth(disable()).unwrap();
    assert_eq!(check(Caller::Anonymous), Ok(()));
}

/// The request was permitted when its member received it.
#[test]
fn rights_count_when_a_command_is_applied() {
    let mut machine = with_rights();
    let op = as_user(Op::Put(put("b", "x")));
    machine.auth(revoke_role("u", "r")).unwrap();
    assert_eq!(machine.apply(op), Err(Error::PermissionDenied));
    assert_eq!(machine.state.view().revision(), 1);
}

/// Its member had not applied yet that auth is enabled.
#[test]
fn a_command_without_a_user_is_refused_when_it_is_applied() {
    let mut machine = with_rights();
    let revision = machine.state.view().revision();
    assert_eq!(machine.put(put("b", "x")), Err(Error::UserEmpty));
    assert_eq!(machine.apply(requests::grant(7, 60)), Err(Error::UserEmpty));
    assert_eq!(machine.apply(auth(user_add("w"))), Err(Error::UserEmpty));
    assert_eq!(machine.state.view().revision(), revision);
    assert!(machine.apply(expire(1, vec![])).is_ok(), "a member's own");
    machine.auth(disable()).unwrap();
    machine.put(put("b", "x")).unwrap();
}

/// A release without auth must stop before a checked command, not apply it unchecked.
#[test]
fn a_command_of_a_user_is_a_kind_of_its_own() {
    let incomplete = [
        Command {
            op: Some(Op::AsUser(Box::default())),
        },
        Command {
            op: Some(as_user(as_user(Op::Put(put("b", "x"))))),
        },
    ];
    for command in incomplete {
        let bytes = prost::Message::encode_to_vec(&command);
        assert!(!is_understood(&bytes.into()));
    }
}

/// A release before auth would serve such a store to everyone.
#[test]
fn a_store_with_users_has_a_layout_that_releases_before_auth_refuse() {
    let layout = |machine: &Machine| {
        let row = machine.engine.get(Table::Meta, b"format");
        row.unwrap().expect("a layout")[7]
    };
    let mut machine = Machine::new();
    machine.put(put("a", "x")).unwrap();
    machine.flush();
    assert_eq!(layout(&machine), 1);
    machine.auth(role_add("r")).unwrap();
    let (rows, _) = super::snapshots::parts(machine.state.capture().unwrap(), usize::MAX);
    let meta = rows.iter().find(|rows| rows.table == Table::Meta as u32);
    let sent = meta.unwrap().rows.iter().find(|row| row.key == "format");
    assert_eq!(sent.unwrap().value[7], 2);
    machine.flush();
    assert_eq!(layout(&machine), 2);
    machine.restart();
    machine.put(put("a", "y")).unwrap();
    machine.flush();
    assert_eq!(layout(&machine), 2);
}

/// The check of a lease must not take time for each of its keys.
#[test]
fn keys_within_one_permission_protect_no_lease() {
    let mut machine = with_rights();
    own(&mut machine, requests::grant(7, 60));
    let leased = |key: &str| PutRequest {
        lease: 7,
        ..put(key, "x")
    };
    for key in ["b", "b1", "b2", "c", "c9"] {
        assert!(permitted(&mut machine, Op::Put(leased(key))));
    }
    let times = LeaseTimeToLiveRequest { id: 7, keys: true };
    let view = machine.state.view();
    assert!(view.authorize(&user(), Access::LeaseTimes(&times)).is_err());
    assert!(permitted(&mut machine, requests::revoke(7)));
}
