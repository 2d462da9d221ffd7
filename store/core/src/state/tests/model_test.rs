//! Random requests, flushes, sweeps and crashes: the state machine against the model.

use std::sync::Arc;

use keelson_model::kv::{Kv, Refusal};
use keelson_proto::etcdserverpb::compare::TargetUnion;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::LeaseName;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::harness::Machine;
use super::requests::*;
use crate::engine::Engine;
use crate::state::{Error, Flush, Lease, Response};

/// An event of a run.
#[derive(Clone, Debug)]
enum Event {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Range(RangeRequest),
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    /// Whether the term is the leader's, the leases, and whether they are those of the present.
    Expire(bool, Vec<i64>, bool),
    /// Likewise, with the remaining time.
    Checkpoint(bool, i64, i64),
    Rotate,
    Write,
    Flushed,
    Sweep,
    Crash,
}

fn key() -> impl Strategy<Value = String> {
    // Few keys, so that requests meet, and one a prefix of another.
    prop_oneof![Just("a"), Just("aa"), Just("b"), Just("c"), Just("d")].prop_map(String::from)
}

fn range_end() -> impl Strategy<Value = String> {
    proptest::sample::select(&["", "\0", "aa", "b", "c", "e"][..]).prop_map(String::from)
}

fn value() -> impl Strategy<Value = String> {
    proptest::sample::select(&["", "1", "2", "3"][..]).prop_map(String::from)
}

/// Small: histories are short, and past revisions are as likely as future ones.
fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => -2..30i64]
}

fn any_put() -> impl Strategy<Value = PutRequest> {
    let drawn = (key(), value(), any::<bool>(), 0..12, 1..4i64);
    drawn.prop_map(|(key, value, prev_kv, rare, lease)| PutRequest {
        prev_kv,
        ignore_value: rare == 0,
        ignore_lease: rare == 1,
        lease: if rare < 8 && 2 < rare { lease } else { 0 },
        ..put(&key, &value)
    })
}

fn any_delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, end, prev_kv)| DeleteRangeRequest {
        prev_kv,
        ..delete(&key, &end)
    })
}

fn any_range() -> impl Strategy<Value = RangeRequest> {
    let filters = proptest::array::uniform4(prop_oneof![5 => Just(0), 1 => 0..12i64]);
    let shape = (0..4i64, 0..3, 0..5, any::<bool>(), 0..6);
    (key(), range_end(), revision(), shape, filters).prop_map(|(key, end, revision, shape, f)| {
        RangeRequest {
            revision,
            limit: shape.0,
            sort_order: shape.1,
            sort_target: shape.2,
            keys_only: shape.3,
            count_only: shape.4 == 0,
            min_mod_revision: f[0],
            max_mod_revision: f[1],
            min_create_revision: f[2],
            max_create_revision: f[3],
            ..range(&key, &end)
        }
    })
}

fn any_compare() -> impl Strategy<Value = Compare> {
    (key(), range_end(), 0..4, 0..5, 0..6i64, value()).prop_map(
        |(key, end, result, target, number, value)| Compare {
            result,
            target,
            key: bytes(&key),
            range_end: bytes(&end),
            target_union: Some(match target {
                0 => TargetUnion::Version(number),
                1 => TargetUnion::CreateRevision(number),
                2 => TargetUnion::ModRevision(number),
                4 => TargetUnion::Lease(number),
                _ => TargetUnion::Value(bytes(&value)),
            }),
        },
    )
}

fn any_txn() -> impl Strategy<Value = TxnRequest> {
    let plain = prop_oneof![
        3 => any_put().prop_map(Request::RequestPut),
        1 => any_delete().prop_map(Request::RequestDeleteRange),
        2 => any_range().prop_map(Request::RequestRange),
    ];
    let branches = |ops: BoxedStrategy<Request>| {
        let ops = vec(ops.prop_map(op), 0..4);
        (vec(any_compare(), 0..2), ops.clone(), ops)
            .prop_map(|(compare, success, failure)| txn(compare, success, failure))
    };
    let plain = plain.boxed();
    let nested = branches(plain.clone()).prop_map(Request::RequestTxn);
    branches(prop_oneof![5 => plain, 1 => nested].boxed())
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any_put().prop_map(Event::Put),
        3 => any_delete().prop_map(Event::Delete),
        5 => any_txn().prop_map(Event::Txn),
        5 => any_range().prop_map(Event::Range),
        2 => (0..30i64).prop_map(Event::Compact),
        5 => (1..4i64).prop_map(Event::Grant),
        1 => (1..4i64).prop_map(Event::Revoke),
        1 => (any::<bool>(), vec(1..4i64, 0..3), any::<bool>())
            .prop_map(|(term, ids, present)| Event::Expire(term, ids, present)),
        1 => (any::<bool>(), 1..4i64, 0..5i64)
            .prop_map(|(term, id, left)| Event::Checkpoint(term, id, left)),
        2 => Just(Event::Rotate),
        2 => Just(Event::Write),
        2 => Just(Event::Flushed),
        3 => Just(Event::Sweep),
        1 => Just(Event::Crash),
    ]
}

/// A machine, its model, and a flush in progress: written or not.
struct Pair {
    machine: Machine,
    model: Kv,
    flush: Option<(Flush, bool)>,
}

impl Pair {
    fn new() -> Pair {
        Pair {
            machine: Machine::new(),
            model: Kv::default(),
            flush: None,
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Put(request) => {
                let expected = self.model.put(&request);
                assert_eq!(self.machine.put(request).map_err(refusal), expected);
            }
            Event::Delete(request) => {
                let expected = self.model.delete(&request);
                assert_eq!(self.machine.delete(request), expected);
            }
            Event::Txn(request) => {
                let expected = self.model.txn(&request);
                assert_eq!(self.machine.txn(request).map_err(refusal), expected);
            }
            Event::Range(request) => {
                let found = self.machine.range(&request).map_err(refusal);
                assert_eq!(found, self.model.range(&request));
            }
            Event::Compact(revision) => {
                let expected = self.model.compact(revision).map(drop);
                let done = self.machine.compact(revision).map_err(refusal);
                assert_eq!(done, expected);
            }
            Event::Grant(_) | Event::Revoke(_) | Event::Expire(..) | Event::Checkpoint(..) => {
                self.lease(event);
            }
            Event::Sweep => {
                self.machine.state.compact_step();
            }
            Event::Rotate | Event::Write | Event::Flushed => self.flush(&event),
            Event::Crash => {
                self.flush = None;
                self.machine.restart();
            }
        }
    }

    fn lease(&mut self, event: Event) {
        match event {
            Event::Grant(id) => {
                let index = self.machine.state.applied().index + 1;
                let expected = self.model.grant(id, index, 10);
                let done = self.machine.apply(grant(id, 10)).map(drop);
                assert_eq!(done.map_err(refusal), expected);
            }
            Event::Revoke(id) => {
                let expected = self.model.revoke(id);
                let done = self.machine.apply(revoke(id)).map(drop);
                assert_eq!(done.map_err(refusal), expected);
            }
            Event::Expire(in_term, ids, present) => {
                let names = ids.iter().filter_map(|id| self.name(*id, present));
                let names: Vec<_> = names.collect();
                for name in names.iter().filter(|_| in_term) {
                    self.model.expire(name.id, name.granted);
                }
                let done = self.machine.apply(expire(u64::from(in_term), names));
                assert_eq!(done, Ok(Response::Empty));
            }
            Event::Checkpoint(in_term, id, left) => {
                let Some(name) = self.name(id, true) else {
                    return;
                };
                if in_term {
                    self.model.checkpoint(id, name.granted, left);
                }
                let done = self
                    .machine
                    .apply(checkpoint(u64::from(in_term), name, left));
                assert_eq!(done, Ok(Response::Empty));
            }
            _ => unreachable!("not of leases"),
        }
    }

    /// The lease of that id, or an earlier one that had it.
    fn name(&self, id: i64, present: bool) -> Option<LeaseName> {
        let mut name = self.machine.state.view().lease(id)?.name();
        name.granted -= u64::from(!present);
        Some(name)
    }

    fn flush(&mut self, event: &Event) {
        match (event, self.flush.take()) {
            (Event::Rotate, None) => {
                self.flush = self.machine.state.rotate().map(|flush| (flush, false));
            }
            (Event::Rotate, some) => {
                assert!(self.machine.state.rotate().is_none());
                self.flush = some;
            }
            (Event::Write, Some((flush, false))) => {
                self.machine.engine.write(&flush.batch).unwrap();
                self.flush = Some((flush, true));
            }
            (Event::Flushed, Some((flush, true))) => self.machine.state.flushed(flush),
            (_, other) => self.flush = other,
        }
    }

    /// Every readable revision, and the ones just outside.
    fn compare(&self) {
        let view = self.machine.state.view();
        assert_eq!(view.revision(), self.model.revision());
        let as_modelled = |lease: Lease| keelson_model::kv::Lease {
            id: lease.id,
            granted: lease.granted,
            ttl: lease.ttl,
            remaining: lease.remaining,
            keys: view.lease_keys(lease.id),
        };
        let leases: Vec<_> = view.leases().into_iter().map(as_modelled).collect();
        assert_eq!(leases, self.model.leases());
        for revision in self.model.compacted().max(1) - 1..=self.model.revision() + 1 {
            let request = at(revision, all());
            let found = self.machine.range(&request).map_err(refusal);
            assert_eq!(found, self.model.range(&request));
        }
    }
}

/// The model's name for an error.
fn refusal(error: Error) -> Refusal {
    match error {
        Error::Compacted => Refusal::Compacted,
        Error::FutureRev => Refusal::FutureRevision,
        Error::KeyNotFound => Refusal::KeyNotFound,
        Error::LeaseNotFound => Refusal::LeaseNotFound,
        Error::LeaseExists => Refusal::LeaseExists,
        other => panic!("not an error of the model: {other}"),
    }
}

proptest! {
    // 256 cases each; set PROPTEST_CASES=10000 for a long run.

    #[test]
    fn the_state_machine_does_what_the_model_does(events in vec(event(), 1..60)) {
        let mut pair = Pair::new();
        for event in events {
            pair.step(event);
        }
        pair.compare();
        pair.machine.restart();
        pair.compare();
    }

    #[test]
    fn members_with_different_timing_hash_alike(
        events in vec(event(), 1..60),
        asked in option::of(1..20i64),
    ) {
        let mut busy = Pair::new();
        let mut lazy = Machine::new();
        for event in events {
            busy.step(event);
        }
        for committed in &busy.machine.log {
            lazy.state.apply(committed, false).unwrap();
        }
        let hash = |machine: &Machine| machine.state.view().hash_kv(asked.unwrap_or(0));
        prop_assert_eq!(hash(&busy.machine), hash(&lazy));
        // A machine restored from the engine and the log is equal, too.
        busy.machine.restart();
        busy.machine.sweep();
        busy.machine.flush();
        prop_assert_eq!(hash(&busy.machine), hash(&lazy));
    }

    #[test]
    fn a_snapshot_at_any_moment_is_the_state(
        events in vec(event(), 1..40),
        max_bytes in 1..300usize,
    ) {
        let mut pair = Pair::new();
        for event in events {
            pair.step(event);
        }
        let engine = Arc::new(crate::engine::MemoryEngine::new());
        let capture = pair.machine.state.capture().unwrap();
        super::snapshots::install_into(engine.clone(), capture, max_bytes);
        pair.machine.engine = engine;
        pair.machine.restart();
        pair.compare();
    }
}
