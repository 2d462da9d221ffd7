//! The v2 tree as a part of the state: alarms, quota, membership, restarts, snapshots, damage.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcdserverpb::{AlarmRequest, AlarmType, Member, alarm_request::AlarmAction};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::member_change::Op as Change;
use keelson_proto::internal::tree_request::Op as TreeOp;
use keelson_proto::internal::{
    ClusterVersion, Command, MemberAttributes, MemberChange, TreeExpire, TreeRequest,
};
use prost::Message;

use super::harness::{Machine, OURS, member};
use super::snapshots::install_into;
use crate::engine::{Engine, MemoryEngine, Table, WriteBatch};
use crate::state::*;
use crate::tree::tests::requests::*;
use crate::{Committed, Entry, EntryKind, MemberId, Term, proposal};

fn busy() -> Machine {
    let mut machine = Machine::new();
    for round in 0..3 {
        for number in 0..9 {
            let path = format!("/1/d{}/f{number}", number % 3);
            tree(&mut machine, ttl(set(&path, &round.to_string()), number)).unwrap();
        }
        match round {
            0 => machine.flush(),
            _ => drop(tree(&mut machine, recursive("/1/d1"))),
        }
    }
    tree(&mut machine, dir(TreeOp::Create, "/1/d3/e")).unwrap();
    expire(&mut machine, 3, 0);
    machine
}

fn tree(machine: &mut Machine, request: TreeRequest) -> Result<Response, Error> {
    machine.apply(Op::Tree(request))
}

fn expire(machine: &mut Machine, seconds: i64, spared_index: u64) {
    let expire = TreeExpire {
        time_ns: NOW + seconds * SECOND,
        spared_index,
        term: 0,
    };
    let done = machine.apply(Op::TreeExpire(expire));
    assert_eq!(done, Ok(Response::Empty));
}

fn raise(machine: &mut Machine, alarm: AlarmType) {
    let request = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 1,
        alarm: alarm as i32,
    };
    machine.apply(Op::Alarm(request)).unwrap();
}

fn same(a: &ReadView, b: &ReadView) {
    assert_eq!(a.tree_index(), b.tree_index());
    assert_eq!(a.tree_get(b"/", true, NOW), b.tree_get(b"/", true, NOW));
    for index in 0..=a.tree_index() + 1 {
        let scan = |view: &ReadView| view.tree_scan(b"/1", true, index);
        assert_eq!(scan(a), scan(b), "{index}");
    }
    assert_eq!(a.tree_next_expiry(0), b.tree_next_expiry(0));
    assert_eq!(a.tree_digest(), b.tree_digest());
}

fn open(engine: &Arc<MemoryEngine>) -> Result<StateMachine, StateError> {
    let opened = StateMachine::open(engine.clone(), Limits::default())?;
    Ok(opened.expect("not empty"))
}

#[test]
fn a_change_answers_with_its_event_and_a_refusal_with_its_error() {
    let mut machine = Machine::new();
    let Ok(Response::Tree(done)) = tree(&mut machine, set("/1/a", "x")) else {
        panic!("accepted");
    };
    assert_eq!(event(&done), "set /1/a=x @4/4");
    let refused = tree(&mut machine, request(TreeOp::Create, "/1/a"));
    let Err(Error::Tree(refusal)) = refused else {
        panic!("refused");
    };
    assert_eq!(error(&refusal), "105 /1/a @4");
    let view = machine.state.view();
    let (found, index) = view.tree_get(b"/1/a", false, NOW).unwrap();
    assert_eq!((node(&found).as_str(), index), ("/1/a=x @4/4", 4));
}

#[test]
fn watchers_get_every_event_in_order() {
    let mut machine = Machine::new();
    let mut state_says = |op: Op| {
        let command = Command { op: Some(op) }.encode_to_vec();
        let entry = Entry {
            index: crate::Index(machine.state.applied().index + 1),
            term: Term(1),
            kind: EntryKind::Command,
            data: proposal::encode(OURS, &command),
            context: Bytes::new(),
        };
        let committed = Committed { entry, conf: None };
        let applied = machine.state.apply(&committed, false).unwrap();
        let again = machine.state.apply(&committed, false).unwrap();
        assert_eq!(again.events, []);
        applied
            .events
            .iter()
            .map(|done| event(done))
            .collect::<Vec<_>>()
    };
    let long = |path| ttl(set(path, "x"), 1);
    assert_eq!(state_says(Op::Tree(long("/1/b"))), ["set /1/b=x @4/4 +1"]);
    assert_eq!(state_says(Op::Tree(long("/1/a"))), ["set /1/a=x @5/5 +1"]);
    let refreshed = state_says(Op::Tree(refresh(long("/1/a"))));
    assert_eq!(
        refreshed,
        ["set /1/a=x @6/6 +1 was /1/a=x @5/5 +1 (refresh)"]
    );
    assert!(state_says(Op::Tree(request(TreeOp::Create, "/1/a"))).is_empty());
    let expired = state_says(Op::TreeExpire(TreeExpire {
        time_ns: NOW + 2 * SECOND,
        spared_index: 0,
        term: 0,
    }));
    let expected = [
        "expire /1/a @7/6 was /1/a=x @6/6 +0",
        "expire /1/b @8/4 was /1/b=x @4/4 +0",
    ];
    assert_eq!(expired, expected);
}

/// Found by the simulator, seed 1045. A paused leader proposes overdue expiries by its own grace,
/// finds in the same step that another member leads, and forwards the proposal to it.
#[test]
fn a_leader_of_the_past_expires_nothing() {
    let mut machine = Machine::new();
    tree(&mut machine, ttl(set("/1/a", "x"), 1)).unwrap();
    for (term, left) in [(7, 1), (1, 0)] {
        let expire = TreeExpire {
            time_ns: NOW + 2 * SECOND,
            spared_index: 0,
            term,
        };
        let done = machine.apply(Op::TreeExpire(expire));
        assert_eq!(done, Ok(Response::Empty));
        let found = machine.state.view().tree_get(b"/1/a", false, NOW);
        assert_eq!(found.iter().count(), left, "entries here are of term 1");
    }
}

#[test]
fn cluster_metadata_advances_the_index_as_in_etcd() {
    let mut machine = Machine::new();
    assert_eq!(machine.state.view().tree_index(), 3, "one for each founder");
    let attributes = |member_id| {
        Op::MemberAttributes(MemberAttributes {
            member_id,
            name: "one".into(),
            client_urls: Vec::new(),
            command_version: 0,
        })
    };
    let version = Op::ClusterVersion(ClusterVersion {
        version: "3.4.0".into(),
    });
    for (op, index) in [
        (attributes(1), 4),
        (attributes(1), 5),
        (attributes(9), 5),
        (version, 6),
    ] {
        machine.apply(op).unwrap();
        assert_eq!(machine.state.view().tree_index(), index);
    }
    let learner = Member {
        is_learner: true,
        ..member(4)
    };
    let changes = [
        (Change::Add(learner), true, 7),
        (Change::Promote(4), true, 8),
        (Change::Update(member(4)), true, 9),
        (Change::Remove(4), true, 11),
        (Change::Remove(4), false, 11),
    ];
    for (op, accepted, index) in changes {
        let _ = machine.change(MemberChange { op: Some(op) }, accepted);
        assert_eq!(machine.state.view().tree_index(), index);
    }
    machine.flush();
    machine.restart();
    assert_eq!(machine.state.view().tree_index(), 11);
}

#[test]
fn corrupt_forbids_every_change_of_the_tree_and_nospace_none() {
    let adding = [
        set("/1/b", ""),
        request(TreeOp::CreateInOrder, "/1"),
        set("/1/d/e", ""),
    ];
    let taking = [
        refresh(ttl(set("/1/a", ""), 1)),
        compare(TreeOp::CompareAndDelete, "/1/a", "x", 0),
        recursive("/1/d"),
    ];
    for alarm in [AlarmType::Nospace, AlarmType::Corrupt] {
        let mut machine = Machine::new();
        tree(&mut machine, set("/1/a", "x")).unwrap();
        tree(&mut machine, set("/1/d/e", "x")).unwrap();
        raise(&mut machine, alarm);
        for request in &adding {
            assert!(0 < tree_cost(request));
            let done = tree(&mut machine, request.clone());
            match alarm {
                AlarmType::Corrupt => assert_eq!(done, Err(Error::Corrupt)),
                _ => assert!(done.is_ok(), "{done:?}"),
            }
        }
        for request in &taking {
            assert_eq!(tree_cost(request), 0);
            let done = tree(&mut machine, request.clone());
            assert_eq!(done.is_ok(), alarm == AlarmType::Nospace);
        }
        let done = machine.apply(Op::TreeExpire(TreeExpire::default()));
        assert_eq!(done.is_ok(), alarm == AlarmType::Nospace);
    }
}

#[test]
fn a_restart_gives_the_same_tree_flushed_or_not() {
    let mut machine = busy();
    let reference = busy();
    machine.restart();
    same(&machine.state.view(), &reference.state.view());
    machine.flush();
    machine.restart();
    same(&machine.state.view(), &reference.state.view());
    // Further entries give the same results.
    let mut reference = reference;
    for machine in [&mut machine, &mut reference] {
        for number in 0..20 {
            tree(machine, set(&format!("/1/new/{number}"), "x")).unwrap();
        }
        expire(machine, 7, 20);
        machine.flush();
    }
    machine.restart();
    same(&machine.state.view(), &reference.state.view());
}

#[test]
fn the_history_survives_a_restart_when_it_has_gone_round() {
    let mut machine = Machine::new();
    for number in 0..2500 {
        let path = format!("/1/{}", number % 7);
        tree(&mut machine, set(&path, &number.to_string())).unwrap();
        if number % 600 == 0 {
            machine.flush();
        }
        if number % 900 == 0 {
            machine.state.touch_tree();
        }
    }
    machine.flush();
    let before = machine.state.view();
    same(&open(&machine.engine).unwrap().view(), &before);
    let oldest = before.tree_index() - 999;
    assert!(before.tree_scan(b"/1", true, oldest).unwrap().is_some());
    assert!(before.tree_scan(b"/1", true, oldest - 1).is_err());
}

#[test]
fn a_snapshot_carries_the_tree_flushed_or_not() {
    let mut machine = busy();
    for flushed in [false, true] {
        if flushed {
            machine.flush();
        }
        for max_bytes in [1, 1 << 20] {
            let engine = Arc::new(MemoryEngine::new());
            install_into(engine.clone(), machine.state.capture().unwrap(), max_bytes);
            same(&open(&engine).unwrap().view(), &machine.state.view());
        }
    }
    // During a flush as well.
    tree(&mut machine, set("/1/later", "x")).unwrap();
    let flush = machine.state.rotate().unwrap();
    tree(&mut machine, recursive("/1/d0")).unwrap();
    let engine = Arc::new(MemoryEngine::new());
    install_into(engine.clone(), machine.state.capture().unwrap(), 100);
    same(&open(&engine).unwrap().view(), &machine.state.view());
    machine.engine.write(&flush.batch).unwrap();
    machine.state.flushed(flush);
    machine.restart();
    same(&open(&engine).unwrap().view(), &machine.state.view());
}

#[test]
fn a_member_that_goes_on_alone_keeps_its_tree() {
    let machine = busy();
    let view = machine.state.view();
    let rest: Vec<Entry> = machine.log.iter().map(|one| one.entry.clone()).collect();
    let durable = open(&machine.engine).unwrap();
    let engine: Arc<dyn Engine> = machine.engine.clone();
    let alone = durable.force_new_cluster(engine, MemberId(1), rest, Limits::default());
    same(&alone.unwrap().view(), &view);
}

#[test]
fn only_what_changed_is_written_and_what_is_gone_leaves_no_row() {
    let mut machine = Machine::new();
    let rows = |machine: &Machine| rows(&machine.engine).len();
    assert_eq!(rows(&machine), 1);
    tree(&mut machine, set("/1/a/b/c", "x")).unwrap();
    let unflushed = machine.state.unflushed();
    assert_eq!(unflushed.records, 4, "three nodes and an event");
    machine.flush();
    assert_eq!(machine.state.unflushed(), Unflushed::default());
    assert_eq!(rows(&machine), 5);
    tree(&mut machine, set("/1/a/b/c", &"y".repeat(10_000))).unwrap();
    let unflushed = machine.state.unflushed();
    assert_eq!(unflushed.records, 2);
    assert!(
        (20_000..21_000).contains(&unflushed.bytes),
        "{}",
        unflushed.bytes
    );
    tree(&mut machine, recursive("/1/a")).unwrap();
    machine.flush();
    assert_eq!(rows(&machine), 4, "three events and the head");
    machine.restart();
    assert_eq!(machine.state.view().tree_index(), 6);
}

#[test]
fn a_store_without_a_tree_gets_an_empty_one() {
    let machine = Machine::new();
    let mut batch = WriteBatch::default();
    for (key, _) in rows(&machine.engine) {
        batch.delete(Table::Tree, key);
    }
    machine.engine.write(&batch).unwrap();
    assert_eq!(open(&machine.engine).unwrap().view().tree_index(), 0);
}

fn rows(engine: &MemoryEngine) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    let all = (Bound::Unbounded, Bound::Unbounded);
    engine
        .range(Table::Tree, all.0, all.1, &mut |key, row| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
            true
        })
        .unwrap();
    rows
}

/// Opens the state with one row replaced or removed.
fn opened_with(machine: &Machine, key: &[u8], row: Option<&[u8]>) -> Result<u64, StateError> {
    let key = Bytes::copy_from_slice(key);
    let before = machine.engine.get(Table::Tree, &key).unwrap();
    let write = |row: Option<&[u8]>| {
        let mut batch = WriteBatch::default();
        match row {
            Some(row) => batch.put(Table::Tree, key.clone(), Bytes::copy_from_slice(row)),
            None => batch.delete(Table::Tree, key.clone()),
        }
        machine.engine.write(&batch).unwrap();
    };
    write(row);
    let opened = open(&machine.engine).map(|state| state.view().tree_digest());
    write(before.as_deref());
    opened
}

fn damaged(opened: Result<u64, StateError>) -> bool {
    matches!(opened, Err(StateError::Damaged(_)))
}

#[test]
fn damaged_rows_are_found_and_never_a_panic() {
    let mut machine = busy();
    machine.flush();
    for (key, row) in rows(&machine.engine) {
        assert!(
            damaged(opened_with(&machine, &key, Some(&[0xff]))),
            "{key:?}"
        );
        for at in 0..row.len() {
            for flip in [1, 0x80] {
                let mut wrong = row.to_vec();
                wrong[at] ^= flip;
                let _ = opened_with(&machine, &key, Some(&wrong));
            }
            let _ = opened_with(&machine, &key, Some(&row[..at]));
        }
    }
    let strange: [&[u8]; 6] = [b"", b"x", b"n", b"h1", b"e1", b"n\xff\xff\xff\xff"];
    for key in strange {
        assert!(damaged(opened_with(&machine, key, Some(b""))), "{key:?}");
    }
    assert!(damaged(opened_with(&machine, b"h", None)));
}

#[test]
fn nodes_without_a_way_to_the_root_are_damage() {
    let mut machine = Machine::new();
    tree(&mut machine, set("/1/a/b", "x")).unwrap();
    machine.flush();
    let key = |id: u8| [b'n', 0, 0, 0, id];
    let row = |parent, name: &'static str, dir, created| {
        let row = keelson_proto::internal::TreeNode {
            parent,
            name: name.into(),
            dir,
            created,
            ..Default::default()
        };
        row.encode_to_vec()
    };
    assert!(
        damaged(opened_with(&machine, &key(3), None)),
        "a child without a parent"
    );
    for (wrong, why) in [
        (row(3, "a", true, 4), "within itself"),
        (row(4, "a", true, 4), "within a file"),
        (row(0, "1", true, 4), "a name that is taken"),
        (row(0, "", true, 4), "no name"),
        (row(0, "a/b", true, 4), "a path for a name"),
        (row(2, "a", true, 5), "of the future"),
        (row(2, "a", false, 4), "a file with a child"),
        (row(99, "a", true, 4), "within nothing"),
    ] {
        assert!(
            damaged(opened_with(&machine, &key(3), Some(&wrong))),
            "{why}"
        );
    }
    let fine = row(2, "a", true, 4);
    assert!(opened_with(&machine, &key(3), Some(&fine)).is_ok());
    for id in [0, 2, 5, 9] {
        let extra = opened_with(&machine, &key(id), Some(&row(2, "z", true, 4)));
        assert!(damaged(extra), "{id}");
    }
}
