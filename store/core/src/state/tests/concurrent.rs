//! Readers concurrent with the applier.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::harness::Machine;
use super::requests::*;
use crate::state::{Error, ReadView};

const KEYS: usize = 8;

/// Every transaction writes one value to all keys; no reader may see two different values.
fn read_until(view: &ReadView, stop: &AtomicBool) -> usize {
    let mut reads = 0;
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let response = view.range(&all()).expect("the current state is readable");
        let revision = response.header.unwrap().revision;
        assert!(revision >= last, "time runs forward");
        last = revision;
        let kvs = response.kvs;
        assert!(kvs.len() == KEYS || revision == 1);
        assert!(kvs.windows(2).all(|kv| kv[0].value == kv[1].value));
        assert!(kvs.iter().all(|kv| kv.mod_revision == revision));
        match view.range(&at(revision - 1, all())) {
            Ok(old) => assert!(old.kvs.windows(2).all(|kv| kv[0].value == kv[1].value)),
            Err(error) => assert_eq!(error, Error::Compacted),
        }
        reads += 1;
    }
    reads
}

#[test]
fn a_reader_never_sees_half_a_transaction() {
    let mut machine = Machine::new();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            let view = machine.state.view();
            let stop = &stop;
            scope.spawn(move || read_until(&view, stop))
        });
        for round in 0..3000 {
            let value = round.to_string();
            let ops = (0..KEYS).map(|key| op_put(&format!("k{key}"), &value));
            let revision = {
                let response = machine.txn(txn(vec![], ops.collect(), vec![])).unwrap();
                response.header.unwrap().revision
            };
            if round % 7 == 0 {
                machine.flush();
            }
            if round % 5 == 0 {
                machine.compact(revision).unwrap();
            }
            if round % 3 == 0 {
                machine.state.compact_step();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("no torn read") > 0);
        }
    });
}

/// The number of live keys at any revision once the window is full.
const WINDOW: i64 = 400;

/// Spreads keys over the index, so that leaves split and empty in its middle.
fn scattered(number: i64) -> String {
    format!("{:08x}", (number as u32).wrapping_mul(0x9e37_79b9))
}

fn count_until(view: &ReadView, stop: &AtomicBool) -> usize {
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        for back in [0, 3] {
            let asked = (view.revision() - back).max(1);
            let response = match view.range(&at(asked, all())) {
                Ok(response) => response,
                Err(error) => {
                    assert_eq!(error, Error::Compacted);
                    continue;
                }
            };
            assert_eq!(response.count, (asked - 1).min(WINDOW));
            assert_eq!(response.kvs.len() as i64, response.count);
            assert!(response.kvs.windows(2).all(|kv| kv[0].key < kv[1].key));
            reads += 1;
        }
    }
    reads
}

#[test]
fn a_reader_counts_right_while_leaves_split_and_empty() {
    let mut machine = Machine::new();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            let view = machine.state.view();
            let stop = &stop;
            scope.spawn(move || count_until(&view, stop))
        });
        for number in 0..4000 {
            let mut ops = vec![op_put(&scattered(number), "")];
            if number >= WINDOW {
                ops.push(op_delete(&scattered(number - WINDOW), ""));
            }
            machine.txn(txn(vec![], ops, vec![])).unwrap();
            if number % 50 == 0 {
                machine.flush();
                machine.compact((number - 100).max(number / 2)).ok();
            }
            machine.state.compact_step();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("no wrong count") > 0);
        }
    });
}
