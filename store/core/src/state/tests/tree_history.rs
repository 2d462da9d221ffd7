//! The history of the v2 tree in bytes: in memory, in the engine, after restarts and snapshots.

use std::ops::Bound;
use std::sync::Arc;

use keelson_proto::internal::command::Op;
use keelson_proto::internal::{MemberAttributes, TreeRequest};

use super::harness::Machine;
use super::snapshots::install_into;
use crate::engine::{Engine, MemoryEngine, Table};
use crate::state::*;
use crate::tree::HISTORY_BYTES_MAX;
use crate::tree::tests::requests::*;

const MIB: usize = 1 << 20;

/// The maximum size of the history.
const HISTORY_BYTES: usize = HISTORY_BYTES_MAX as usize;

fn tree(machine: &mut Machine, request: TreeRequest) {
    machine.apply(Op::Tree(request)).unwrap();
}

/// The size of the tree's rows in the engine.
fn row_bytes(engine: &MemoryEngine) -> usize {
    let mut bytes = 0;
    let all = (Bound::Unbounded, Bound::Unbounded);
    engine
        .range(Table::Tree, all.0, all.1, &mut |key, row| {
            bytes += key.len() + row.len();
            true
        })
        .unwrap();
    bytes
}

fn open(engine: &Arc<MemoryEngine>) -> StateMachine {
    let opened = StateMachine::open(engine.clone(), Limits::default()).unwrap();
    opened.expect("not empty")
}

/// For every index, whether it is cleared, and which event a scan finds there.
fn history(view: &ReadView) -> Vec<Result<Option<u64>, Bytes>> {
    let scan = |since| view.tree_scan(b"/1", true, since);
    let scans = (1..=view.tree_index() + 1).map(scan);
    let scans = scans.map(|found| found.map(|event| event.map(|event| event.index)));
    scans
        .map(|found| found.map_err(|error| error.cause))
        .collect()
}

/// A change that advances the index and is invisible to clients.
fn attributes() -> MemberAttributes {
    MemberAttributes {
        member_id: 1,
        ..MemberAttributes::default()
    }
}

/// Ten events of 14 MiB each, among small ones.
fn large(machine: &mut Machine, flush_each: bool) {
    let value = "v".repeat(7 * MIB);
    for round in 0..10 {
        tree(machine, set("/1/large", &value));
        tree(machine, set(&format!("/1/{round}"), "x"));
        tree(machine, refresh(ttl(set("/1/large", ""), 60)));
        machine.apply(Op::MemberAttributes(attributes())).unwrap();
        if flush_each {
            machine.flush();
        }
    }
}

#[test]
fn large_events_in_the_history_are_bounded_in_bytes() {
    let mut machine = Machine::new();
    large(&mut machine, true);
    let bytes = row_bytes(&machine.engine);
    assert!(bytes < HISTORY_BYTES + 8 * MIB, "{bytes}");
    let found = history(&machine.state.view());
    let first = found.iter().position(Result::is_ok).unwrap();
    // Four of 14 MiB, and the small ones after the fifth last.
    let index = machine.state.view().tree_index() as usize;
    assert_eq!(first, index - 4 * 4 - 3);
    let cleared = "the requested history has been cleared";
    for wrong in &found[..first] {
        let cause = wrong.as_ref().unwrap_err();
        assert!(cause.starts_with(cleared.as_bytes()), "{cause:?}");
    }
    assert!(found[first..].iter().all(Result::is_ok));
}

#[test]
fn refreshes_of_a_large_value_take_no_room() {
    let mut machine = Machine::new();
    tree(&mut machine, ttl(set("/1/a", &"v".repeat(4 * MIB)), 60));
    for _ in 0..30 {
        tree(&mut machine, refresh(ttl(set("/1/a", ""), 60)));
        machine.flush();
    }
    let bytes = row_bytes(&machine.engine);
    assert!(bytes < 9 * MIB, "{bytes}");
}

#[test]
fn every_member_clears_the_same_events_whatever_it_has_been_through() {
    let mut one = Machine::new();
    large(&mut one, true);
    let expected = history(&one.state.view());
    let digest = one.state.view().tree_digest();
    let mut other = Machine::new();
    large(&mut other, false);
    assert_eq!(history(&other.state.view()), expected, "never flushed");
    other.restart();
    assert_eq!(history(&other.state.view()), expected, "from the log");
    other.flush();
    other.restart();
    assert_eq!(history(&other.state.view()), expected, "from the engine");
    assert!(row_bytes(&other.engine) < HISTORY_BYTES + 8 * MIB);
    let engine = Arc::new(MemoryEngine::new());
    install_into(engine.clone(), other.state.capture().unwrap(), MIB);
    let mut installed = open(&engine);
    assert_eq!(history(&installed.view()), expected, "from a snapshot");
    assert_eq!(installed.view().tree_digest(), digest);
    assert_eq!(installed.rotate().map(|flush| flush.index), None);
}

#[test]
fn a_node_that_changes_often_counts_as_the_one_row_that_it_is() {
    let mut machine = Machine::new();
    let bytes = |machine: &Machine| machine.state.unflushed().bytes;
    tree(&mut machine, ttl(set("/1/a/b", &"v".repeat(MIB)), 60));
    let (value, small) = (MIB as u64, 10_000);
    let both = 2 * value..2 * value + small;
    assert!(both.contains(&bytes(&machine)), "the node and its event");
    machine.flush();
    assert_eq!(bytes(&machine), 0);
    for _ in 0..30 {
        tree(&mut machine, refresh(ttl(set("/1/a/b", ""), 60)));
    }
    assert!((value..value + small).contains(&bytes(&machine)));
    tree(&mut machine, recursive("/1/a"));
    assert!(bytes(&machine) < small, "rows to be deleted");
    tree(&mut machine, set("/1/a", "x"));
    machine.flush();
    assert_eq!(machine.state.unflushed(), Unflushed::default());
}
