//! Snapshots: one member captures its state, another installs it.

use std::sync::Arc;

use keelson_proto::peer::snapshot_chunk::Part;
use keelson_proto::peer::{Rows, SnapshotEnd};

use super::harness::Machine;
use super::requests::*;
use crate::engine::{Engine, MemoryEngine, Table};
use crate::state::*;

fn busy() -> Machine {
    let mut machine = Machine::new();
    for round in 0..3 {
        for key in 0..50 {
            machine
                .put(put(&format!("k{key}"), &round.to_string()))
                .unwrap();
        }
        if round < 2 {
            machine.flush();
        }
    }
    machine.delete(delete("k1", "k2"));
    machine
}

pub(super) fn parts(capture: Capture, max_bytes: usize) -> (Vec<Rows>, SnapshotEnd) {
    let mut rows = Vec::new();
    for chunk in capture.chunks(max_bytes) {
        match chunk.unwrap().part.unwrap() {
            Part::Rows(part) => rows.push(part),
            Part::End(end) => return (rows, end),
            Part::Offer(_) => unreachable!(),
        }
    }
    panic!("a capture ends with its checksum");
}

pub(super) fn install(rows: Vec<Rows>, end: SnapshotEnd) -> Result<StateMachine, SnapshotError> {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let mut builder = SnapshotBuilder::new(engine.clone());
    for part in rows {
        builder.push(part)?;
    }
    // Nothing is valid before the end.
    assert!(
        StateMachine::open(engine.clone(), Limits::default())
            .unwrap()
            .is_none()
    );
    builder.finish(end)?;
    Ok(StateMachine::open(engine, Limits::default())
        .unwrap()
        .unwrap())
}

pub(super) fn install_into(engine: Arc<dyn Engine>, capture: Capture, max_bytes: usize) {
    let (rows, end) = parts(capture, max_bytes);
    let mut builder = SnapshotBuilder::new(engine);
    for part in rows {
        builder.push(part).unwrap();
    }
    builder.finish(end).unwrap();
}

fn same(a: &StateMachine, b: &StateMachine) {
    assert_eq!(a.applied(), b.applied());
    let (a, b) = (a.view(), b.view());
    assert_eq!(a.hash_kv(0), b.hash_kv(0));
    assert_eq!(a.members(), b.members());
    assert_eq!(a.cluster_id(), b.cluster_id());
    let first = a.compact_revision().max(1);
    for revision in first..=a.revision() {
        assert_eq!(a.range(&at(revision, all())), b.range(&at(revision, all())));
    }
}

#[test]
fn a_snapshot_makes_an_equal_member() {
    let mut machine = busy();
    machine.compact(60).unwrap();
    for max_bytes in [1, 100, 1 << 20] {
        let (rows, end) = parts(machine.state.capture().unwrap(), max_bytes);
        let copy = install(rows, end).unwrap();
        same(&copy, &machine.state);
    }
}

#[test]
fn a_capture_stays_as_it_was_while_entries_are_applied_and_flushed() {
    let mut machine = busy();
    let reference = busy();
    let mut capture = machine.state.capture().unwrap();
    let mut rows = Vec::new();
    let end = loop {
        machine.put(put("k7", "later")).unwrap();
        machine.compact(machine.state.view().revision()).unwrap();
        machine.state.compact_step();
        if rows.len() % 3 == 0 {
            machine.flush();
        }
        match capture.next_chunk(200).unwrap().unwrap().part.unwrap() {
            Part::Rows(part) => rows.push(part),
            Part::End(end) => break end,
            Part::Offer(_) => unreachable!(),
        }
    };
    assert!(rows.len() > 10);
    assert!(capture.next_chunk(200).unwrap().is_none());
    same(&install(rows, end).unwrap(), &reference.state);
}

#[test]
fn a_capture_has_the_leases_of_its_index_in_the_order_of_their_rows() {
    let mut machine = busy();
    for id in [7, -7, 8, i64::MIN, i64::MAX] {
        machine.apply(grant(id, 5)).unwrap();
    }
    machine.flush();
    machine.apply(grant(9, 5)).unwrap();
    machine.apply(revoke(8)).unwrap();
    let capture = machine.state.capture().unwrap();
    let leases = machine.state.view().leases();
    for lease in &leases {
        machine.apply(revoke(lease.id)).unwrap();
    }
    machine.flush();
    let (parts, end) = parts(capture, 20);
    let of_leases = parts
        .iter()
        .filter(|part| part.table == Table::Leases as u32);
    let rows: Vec<_> = of_leases.flat_map(|part| &part.rows).collect();
    assert_eq!(rows.len(), 5);
    assert!(rows.is_sorted_by_key(|row| &row.key), "{rows:?}");
    assert_eq!(install(parts, end).unwrap().view().leases(), leases);
}

#[test]
fn a_copy_goes_on_as_the_original_does() {
    let mut machine = busy();
    let (rows, end) = parts(machine.state.capture().unwrap(), 500);
    let mut copy = install(rows, end).unwrap();
    let before = machine.log.len();
    machine.put(put("k3", "more")).unwrap();
    machine.delete(delete("k4", ""));
    machine.put(put("k1", "again")).unwrap();
    for committed in &machine.log[before..] {
        copy.apply(committed, false).unwrap();
    }
    same(&copy, &machine.state);
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let machine = busy();
    let capture = || parts(machine.state.capture().unwrap(), 100);
    let (mut rows, end) = capture();
    rows.pop();
    assert!(install(rows, end).is_err());
    let (mut rows, end) = capture();
    rows[0].rows[0].value = bytes("other");
    assert!(install(rows, end).is_err());
    let (mut rows, end) = capture();
    rows[0].table = 99;
    assert!(install(rows, end).is_err());
}
