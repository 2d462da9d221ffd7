//! Captures that are read in steps while a compaction sweeps, rows are flushed and entries are
//! applied: what is sent depends on the revision and the compaction alone.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::command::Op;
use keelson_proto::peer::snapshot_chunk::Part;
use keelson_proto::peer::{Rows, SnapshotEnd};
use proptest::collection::vec;
use proptest::prelude::*;

use super::harness::Machine;
use super::requests::*;
use crate::engine::{Engine, MemoryEngine, Table};
use crate::state::*;

/// More keys than one leaf of the index holds, so that a sweep takes several steps.
const CROWD: usize = 150;

/// A partly read capture, and the state that it must produce.
struct Reading {
    capture: Capture,
    rows: Vec<Rows>,
    end: Option<SnapshotEnd>,
    expected: (Vec<Rows>, SnapshotEnd),
    /// The entries that the capture includes.
    entries: usize,
}

/// A machine with captures in progress, and one that never flushes and never sweeps.
struct Sender {
    machine: Machine,
    still: Machine,
    flush: Option<Flush>,
    reading: Vec<Reading>,
}

impl Sender {
    fn new() -> Sender {
        Sender {
            machine: Machine::new(),
            still: Machine::new(),
            flush: None,
            reading: Vec::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        let answers = [&mut self.machine, &mut self.still].map(|machine| machine.apply(op.clone()));
        assert_eq!(answers[0], answers[1]);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.apply(Op::Put(put(key, value)));
    }

    fn crowd(&mut self) {
        let puts = (0..CROWD).map(|key| op_put(&format!("k{key:03}"), "crowd"));
        self.apply(Op::Txn(txn(vec![], puts.collect(), vec![])));
    }

    fn compact(&mut self, back: i64) {
        let revision = self.machine.state.view().revision() - back;
        self.apply(Op::Compaction(compaction(revision)));
    }

    fn rotate(&mut self) {
        if self.flush.is_none() {
            self.flush = self.machine.state.rotate();
        }
    }

    fn flushed(&mut self) {
        if let Some(flush) = self.flush.take() {
            self.machine.engine.write(&flush.batch).unwrap();
            self.machine.state.flushed(flush);
        }
    }

    fn flush_all(&mut self) {
        self.flushed();
        self.rotate();
        self.flushed();
    }

    /// The process dies: the engine may or may not have written the last batch.
    fn crash(&mut self, written: bool) {
        self.reading.clear();
        if let Some(flush) = self.flush.take().filter(|_| written) {
            self.machine.engine.write(&flush.batch).unwrap();
        }
        self.machine.restart();
    }

    fn capture(&mut self) {
        let all = self.still.state.capture().unwrap();
        self.reading.push(Reading {
            capture: self.machine.state.capture().unwrap(),
            rows: Vec::new(),
            end: None,
            expected: super::snapshots::parts(all, usize::MAX),
            entries: self.machine.log.len(),
        });
    }

    /// Reads a chunk of every capture.
    fn piece(&mut self, max_bytes: usize) {
        for reading in self.reading.iter_mut().filter(|one| one.end.is_none()) {
            match reading.capture.next_chunk(max_bytes).unwrap() {
                Some(chunk) => match chunk.part.unwrap() {
                    Part::Rows(rows) => reading.rows.push(rows),
                    Part::End(end) => reading.end = Some(end),
                    Part::Offer(_) => unreachable!(),
                },
                None => panic!("a capture ends with its checksum"),
            }
        }
    }

    /// Reads the rest, and compares every receiver.
    fn finish(mut self) {
        while self.reading.iter().any(|reading| reading.end.is_none()) {
            self.piece(2_000);
            self.machine.state.compact_step();
            self.flush_all();
        }
        for reading in std::mem::take(&mut self.reading) {
            self.check(reading);
        }
    }

    fn check(&self, reading: Reading) {
        let Reading { rows, entries, .. } = reading;
        let mut receiver = install(rows.clone(), reading.end.unwrap());
        let mut still = Machine::new();
        for committed in &self.machine.log[..entries] {
            still.state.apply(committed, false).unwrap();
        }
        same(&receiver, &still.state);
        let compacted = receiver.view().compact_revision();
        assert_eq!(receiver.view().compaction_finished(), compacted);
        assert_eq!(flat(&rows), flat(&reading.expected.0));
        assert_eq!(reading.end.unwrap(), reading.expected.1);
        // Further entries give the same states.
        for committed in &self.machine.log[entries..] {
            receiver.apply(committed, false).unwrap();
        }
        while receiver.compact_step() {}
        same(&receiver, &self.machine.state);
    }
}

fn install(rows: Vec<Rows>, end: SnapshotEnd) -> StateMachine {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let mut builder = SnapshotBuilder::new(engine.clone());
    for part in rows {
        builder.push(part).unwrap();
    }
    builder.finish(end).unwrap();
    StateMachine::open(engine, Limits::default())
        .unwrap()
        .unwrap()
}

fn flat(parts: &[Rows]) -> Vec<(u32, Bytes, Bytes)> {
    let rows = parts.iter().flat_map(|part| {
        let row = |row: &keelson_proto::peer::Row| (part.table, row.key.clone(), row.value.clone());
        part.rows.iter().map(row)
    });
    rows.collect()
}

/// Compares what is readable now, at the compaction and between, and all hashes.
fn same(a: &StateMachine, b: &StateMachine) {
    assert_eq!(a.applied(), b.applied());
    let (a, b) = (a.view(), b.view());
    assert_eq!(a.compact_revision(), b.compact_revision());
    let (first, last) = (a.compact_revision().max(1), a.revision());
    for revision in [first, first.midpoint(last), (last - 1).max(first), last, 0] {
        let request = at(revision, all());
        assert_eq!(a.range(&request), b.range(&request));
        assert_eq!(a.hash_kv(revision), b.hash_kv(revision));
    }
}

/// etcd has the same rule for its hash: of the rows up to the compaction, only the newest live row
/// of a key counts.
#[test]
fn a_deleted_key_does_not_come_back_on_the_receiver() {
    let mut sender = Sender::new();
    sender.crowd();
    sender.apply(Op::DeleteRange(delete("k", "l")));
    sender.put("other", "1");
    sender.flush_all();
    sender.compact(0);
    sender.machine.sweep();
    // The index has dropped all of it, the engine nothing yet.
    sender.capture();
    sender.piece(1);
    sender.flush_all();
    sender.finish();
}

#[test]
fn a_capture_reads_on_over_a_flush_that_was_under_way() {
    let mut sender = Sender::new();
    sender.crowd();
    sender.flush_all();
    sender.apply(Op::DeleteRange(delete("k", "l")));
    sender.compact(0);
    sender.machine.sweep();
    sender.rotate();
    sender.capture();
    sender.piece(1);
    sender.flushed();
    sender.finish();
}

#[test]
fn a_capture_after_a_crash_in_the_middle_of_a_sweep() {
    let mut sender = Sender::new();
    sender.crowd();
    sender.apply(Op::DeleteRange(delete("k", "l")));
    sender.flush_all();
    sender.compact(0);
    assert!(sender.machine.state.compact_step());
    sender.rotate();
    sender.crash(true);
    let view = sender.machine.state.view();
    assert!(view.compaction_finished() < view.compact_revision());
    sender.capture();
    sender.piece(1);
    sender.finish();
}

#[test]
fn a_capture_holds_no_row_that_a_compaction_gave_up() {
    let mut sender = Sender::new();
    for value in ["1", "2", "3"] {
        sender.put("a", value);
        sender.put("b", value);
    }
    sender.apply(Op::DeleteRange(delete("a", "")));
    sender.compact(0);
    sender.capture();
    let rows = flat(&sender.reading[0].expected.0);
    let pairs = rows.iter().filter(|row| row.0 == Table::Key as u32);
    assert_eq!(pairs.count(), 2, "the newest of b, and the last deletion");
    sender.finish();
}

/// An event of a run.
#[derive(Clone, Debug)]
enum Event {
    Put(&'static str, &'static str),
    Delete(&'static str, &'static str),
    Crowd,
    Compact(i64),
    Step,
    Rotate,
    Flushed,
    Capture,
    Piece(usize),
    Crash(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let key = || proptest::sample::select(&["a", "k", "k050", "k140", "z"][..]);
    let value = proptest::sample::select(&["", "1", "2"][..]);
    let end = proptest::sample::select(&["", "\0", "k100", "l"][..]);
    prop_oneof![
        6 => (key(), value).prop_map(|(key, value)| Event::Put(key, value)),
        4 => (key(), end).prop_map(|(key, end)| Event::Delete(key, end)),
        2 => Just(Event::Crowd),
        3 => (0..4i64).prop_map(Event::Compact),
        6 => Just(Event::Step),
        3 => Just(Event::Rotate),
        3 => Just(Event::Flushed),
        2 => Just(Event::Capture),
        6 => proptest::sample::select(&[1, 500, 5_000][..]).prop_map(Event::Piece),
        1 => any::<bool>().prop_map(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_depends_on_revision_and_compaction_alone(events in vec(event(), 1..60)) {
        let mut sender = Sender::new();
        sender.crowd();
        for event in events {
            match event {
                Event::Put(key, value) => sender.put(key, value),
                Event::Delete(key, end) => sender.apply(Op::DeleteRange(delete(key, end))),
                Event::Crowd => sender.crowd(),
                Event::Compact(back) => sender.compact(back),
                Event::Step => {
                    sender.machine.state.compact_step();
                }
                Event::Rotate => sender.rotate(),
                Event::Flushed => sender.flushed(),
                Event::Capture if sender.reading.len() < 3 => sender.capture(),
                Event::Capture => {}
                Event::Piece(max_bytes) => sender.piece(max_bytes),
                Event::Crash(written) => sender.crash(written),
            }
        }
        sender.finish();
    }
}
