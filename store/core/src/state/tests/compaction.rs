//! Compaction: its rules, crashes during it, and captures that hold it back.

use std::ops::Bound;

use super::harness::Machine;
use super::requests::*;
use crate::engine::{Engine, Table};
use crate::state::Error;

/// The number of rows in the engine.
pub(super) fn rows(machine: &Machine) -> usize {
    let mut rows = 0;
    machine
        .engine
        .range(
            Table::Key,
            Bound::Unbounded,
            Bound::Unbounded,
            &mut |_, _| {
                rows += 1;
                true
            },
        )
        .unwrap();
    rows
}

fn busy() -> Machine {
    let mut machine = Machine::new();
    for round in 0..10 {
        for key in ["a", "b", "c"] {
            machine.put(put(key, &round.to_string())).unwrap();
        }
    }
    machine.delete(delete("c", ""));
    machine
}

#[test]
fn revisions_must_rise_and_must_have_happened() {
    let mut machine = busy();
    let current = machine.state.view().revision();
    assert_eq!(machine.compact(current + 1), Err(Error::FutureRev));
    assert_eq!(machine.compact(-1), Err(Error::Compacted));
    assert_eq!(machine.compact(5), Ok(()));
    assert_eq!(machine.compact(5), Err(Error::Compacted));
    assert_eq!(machine.compact(4), Err(Error::Compacted));
    assert_eq!(machine.compact(current), Ok(()));
    assert_eq!(machine.state.view().compact_revision(), current);
}

#[test]
fn what_can_be_read_before_can_be_read_after() {
    let mut machine = busy();
    machine.flush();
    assert_eq!(rows(&machine), 31);
    let before = machine.range(&at(20, all())).unwrap();
    machine.compact(20).unwrap();
    assert_eq!(machine.range(&at(20, all())).unwrap(), before);
    machine.sweep();
    machine.flush();
    assert_eq!(machine.range(&at(20, all())).unwrap(), before);
    assert_eq!(machine.range(&at(19, all())), Err(Error::Compacted));
    // 19 puts up to revision 20, of which the newest of each key stays, and 12 rows since.
    assert_eq!(rows(&machine), 3 + 12);
    assert_eq!(machine.state.view().compaction_finished(), 20);
}

#[test]
fn a_deleted_key_leaves_nothing() {
    let mut machine = busy();
    machine.delete(delete("\0", "\0"));
    machine.flush();
    let current = machine.state.view().revision();
    machine.compact(current).unwrap();
    machine.sweep();
    machine.flush();
    // Watches may begin at the compaction, with the deletions.
    assert_eq!(rows(&machine), 2);
    machine.put(put("k", "1")).unwrap();
    let current = machine.state.view().revision();
    machine.compact(current).unwrap();
    machine.sweep();
    machine.flush();
    assert_eq!(rows(&machine), 1);
    machine.restart();
    assert_eq!(machine.state.view().revision(), current);
    assert_eq!(machine.state.view().compact_revision(), current);
}

#[test]
fn rows_that_never_reached_the_engine_never_do() {
    let mut machine = busy();
    machine.compact(machine.state.view().revision()).unwrap();
    machine.sweep();
    let flush = machine.state.rotate().unwrap();
    let keys = flush.batch.changes.keys();
    assert_eq!(keys.filter(|(table, _)| *table == Table::Key).count(), 3);
}

#[test]
fn a_crash_between_flushes_resumes_the_compaction() {
    let mut machine = busy();
    for key in 0..1000 {
        machine.put(put(&format!("k{key}"), "1")).unwrap();
        machine.put(put(&format!("k{key}"), "2")).unwrap();
    }
    machine.flush();
    machine.compact(machine.state.view().revision()).unwrap();
    assert!(machine.state.compact_step());
    machine.flush();
    machine.restart();
    assert_eq!(machine.state.view().compaction_finished(), -1);
    machine.sweep();
    machine.flush();
    assert_eq!(rows(&machine), 1002);
    machine.restart();
    assert!(!machine.state.compact_step());
    assert_eq!(machine.show(&get("k7")), ["k7=2"]);
}

#[test]
fn a_capture_holds_the_rows_it_needs() {
    let mut machine = busy();
    machine.flush();
    let capture = machine.state.capture().unwrap();
    machine.compact(machine.state.view().revision()).unwrap();
    assert!(machine.state.compact_step());
    assert_eq!(machine.state.unflushed().records, 0);
    drop(capture);
    machine.sweep();
    assert_eq!(machine.state.unflushed().records, 28);
}

#[test]
fn a_compaction_alone_is_worth_a_flush() {
    let mut machine = busy();
    machine.compact(1).unwrap();
    machine.flush();
    assert!(machine.state.rotate().is_none());
    machine.sweep();
    // Nothing was dropped, but the compaction has advanced.
    assert!(machine.state.rotate().is_some());
}
