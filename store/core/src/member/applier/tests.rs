//! Effects of the applier: acknowledgements, reads, flushes, compaction and the backlog.

use std::sync::Arc;

use keelson_proto::etcdserverpb;
use keelson_proto::internal::hash_check::Step;
use keelson_proto::internal::{Command, HashCheck, command::Op};
use prost::Message as _;

use super::*;
use crate::engine::MemoryEngine;
use crate::state::auth::Caller;
use crate::state::{Genesis, HASH_SCHEME, HashOutcome, Limits};
use crate::{Entry, EntryKind, Term, proposal};

const POLICY: FlushPolicy = FlushPolicy {
    interval_ms: 100,
    records: 10,
    bytes: 1 << 20,
    backlog_bytes_max: 8 << 20,
};

fn state() -> StateMachine {
    let engine = Arc::new(MemoryEngine::new());
    let state = StateMachine::create(engine, Genesis::default(), Limits::default());
    state.expect("an empty engine")
}

fn applier() -> Applier {
    Applier::new(MemberId(1), 1, state(), POLICY)
}

/// An entry with which a leader begins its term.
fn entry(index: u64) -> ApplierEvent {
    let entry = Entry {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        data: Default::default(),
        context: Default::default(),
    };
    ApplierEvent::Committed(vec![Committed { entry, conf: None }])
}

fn effects(applier: &mut Applier, work: ApplierEvent) -> ApplierEffects {
    let mut effects = ApplierEffects::default();
    applier
        .handle(work, &mut effects)
        .expect("it is understood");
    effects
}

fn tick(applier: &mut Applier, now: u64) -> (Option<(EngineNumber, Flush)>, u64) {
    let mut effects = ApplierEffects::default();
    let due = applier.tick(Millis(now), &mut effects);
    (effects.flush, due.0)
}

#[test]
fn a_flush_is_due_after_the_interval_and_one_at_a_time() {
    let mut applier = applier();
    assert!(matches!(tick(&mut applier, 0), (None, u64::MAX)));
    effects(&mut applier, entry(1));
    assert!(matches!(tick(&mut applier, 5), (None, 105)));
    effects(&mut applier, entry(2));
    assert!(matches!(tick(&mut applier, 104), (None, 105)));
    let (flush, due) = tick(&mut applier, 105);
    let (engine, flush) = flush.expect("it is due");
    assert_eq!(due, u64::MAX);
    effects(&mut applier, entry(3));
    assert!(matches!(tick(&mut applier, 500), (None, u64::MAX)));
    let done = effects(&mut applier, ApplierEvent::Flushed { engine, flush });
    let [Input::Durable { index: Index(2) }] = done.inputs[..] else {
        panic!("{:?}", done.inputs);
    };
    assert!(matches!(tick(&mut applier, 500), (None, 600)));
}

fn command(index: u64, op: Op) -> ApplierEvent {
    let id = ProposalId {
        member: MemberId(1),
        incarnation: 1,
        counter: index,
    };
    let command = Command { op: Some(op) }.encode_to_vec();
    let ApplierEvent::Committed(mut entries) = entry(index) else {
        unreachable!("it is");
    };
    entries[0].entry.data = proposal::encode(id, &command);
    ApplierEvent::Committed(entries)
}

/// While a capture held the rows, the applier checked it every 2 ms.
#[test]
fn a_compaction_that_is_held_is_checked_rarely() {
    let mut applier = applier();
    for index in 1..=2 {
        let put = etcdserverpb::PutRequest {
            key: "k".into(),
            ..Default::default()
        };
        effects(&mut applier, command(index, Op::Put(put)));
    }
    let capture = effects(&mut applier, ApplierEvent::Capture).captured;
    let compaction = etcdserverpb::CompactionRequest {
        revision: 3,
        ..Default::default()
    };
    effects(&mut applier, command(3, Op::Compaction(compaction)));
    assert!(applier.state().is_compacting());
    assert_eq!(tick(&mut applier, 0).1, HELD_PAUSE_MS);
    drop(capture);
    let (_, due) = tick(&mut applier, HELD_PAUSE_MS);
    assert_eq!(due, HELD_PAUSE_MS + COMPACT_PAUSE_MS);
}

/// The old engine's writer is not interrupted by a snapshot.
#[test]
fn a_flush_into_an_engine_that_a_snapshot_replaced_is_ignored() {
    let mut applier = applier();
    effects(&mut applier, entry(1));
    tick(&mut applier, 0);
    let (flush, _) = tick(&mut applier, 100);
    let (engine, flush) = flush.expect("it is due");
    let mut installed = ApplierEffects::default();
    applier.install(state(), &mut installed);
    assert!(installed.members_changed);
    let late = effects(&mut applier, ApplierEvent::Flushed { engine, flush });
    assert!(late.inputs.is_empty());
    assert_eq!(applier.state().durable(), Index(0));
}

#[test]
fn a_read_is_done_once_its_index_is_applied_or_installed() {
    let mut applier = applier();
    for (context, index) in [(7, 1), (8, 2), (9, 9)] {
        let index = Index(index);
        let read = effects(
            &mut applier,
            ApplierEvent::Read(ReadReady { context, index }),
        );
        assert!(read.reads_done.is_empty());
    }
    assert_eq!(effects(&mut applier, entry(1)).reads_done, [7]);
    effects(&mut applier, ApplierEvent::ReadCancelled { context: 9 });
    let mut newer = state();
    for index in 1..=20 {
        let ApplierEvent::Committed(entries) = entry(index) else {
            unreachable!("it is");
        };
        newer.apply(&entries[0], false).expect("it is understood");
    }
    let mut installed = ApplierEffects::default();
    applier.install(newer, &mut installed);
    assert_eq!(installed.reads_done, [8]);
}

/// Its watchers were sent events of the wrong state, and missed those of the right one.
#[test]
fn a_member_that_differs_ends_its_watches() {
    let mut applier = applier();
    let put = || {
        Op::Put(etcdserverpb::PutRequest {
            key: "k".into(),
            ..Default::default()
        })
    };
    let watch = |applier: &Applier| {
        let mut stream = applier.watches().stream(Arc::new(Caller::Member), || ());
        let range = etcdserverpb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            ..Default::default()
        };
        stream.create(range);
        stream
    };
    let mut before = watch(&applier);
    effects(&mut applier, hash_check(1, Step::Begin, 0, 0));
    // This member alone has these revisions.
    effects(&mut applier, command(2, put()));
    effects(&mut applier, command(3, put()));
    applier.watches().fan_out().expect("memory does not fail");
    effects(&mut applier, hash_check(4, Step::Compare, 0, 0));
    assert!(matches!(before.next(), Ok(Some(_))));
    effects(&mut applier, hash_check(5, Step::Verdict, 4, 5));
    assert!(matches!(before.next(), Err(Error::Corrupt)));
    let mut during = watch(&applier);
    assert!(matches!(during.next(), Err(Error::Corrupt)));
    let mut other = Applier::new(MemberId(2), 1, state(), POLICY);
    for index in 1..=5 {
        effects(&mut other, entry(index));
    }
    applier.install(other.state, &mut ApplierEffects::default());
    assert!(matches!(before.next(), Err(Error::Corrupt)));
    let mut after = watch(&applier);
    assert!(matches!(after.next(), Ok(Some(_))), "it has begun");
    effects(&mut applier, command(6, put()));
    applier.watches().fan_out().expect("memory does not fail");
    let event = after.next().expect("memory does not fail");
    assert_eq!(event.expect("an event").revision, 2);
}

fn hash_check(index: u64, step: Step, of: u64, value: u64) -> ApplierEvent {
    let check = HashCheck {
        step: step.into(),
        scheme: HASH_SCHEME,
        index: of,
        value,
    };
    command(index, Op::HashCheck(check))
}

/// It must neither answer from its state nor give it to others, and must lose no entry.
#[test]
fn a_member_that_differs_keeps_the_entries_for_the_state_that_it_is_given() {
    let mut applier = applier();
    effects(&mut applier, hash_check(1, Step::Begin, 0, 0));
    let done = effects(&mut applier, hash_check(2, Step::Compare, 0, 0));
    assert!(matches!(
        done.audit[..],
        [AuditNote::Applied(Index(2), HashOutcome::Compared(_))]
    ));
    let read = ReadReady {
        context: 9,
        index: Index(7),
    };
    effects(&mut applier, ApplierEvent::Read(read));
    let done = effects(&mut applier, hash_check(3, Step::Verdict, 2, 5));
    assert!(applier.is_fenced());
    assert_eq!(done.reads_refused, [9], "a read that could never be done");
    assert!(done.reads_done.is_empty());
    for index in 4..=6 {
        let put = command(index, Op::Put(etcdserverpb::PutRequest::default()));
        let done = effects(&mut applier, put);
        assert_eq!(done.applied[0].response, Err(Error::Corrupt));
    }
    assert_eq!(applier.applied(), Index(3));
    let done = effects(&mut applier, ApplierEvent::Capture);
    assert!(done.captured.is_none());
    let mut told = ApplierEffects::default();
    applier.tick(Millis(0), &mut told);
    let [
        AuditNote::State {
            divergence,
            applied,
            ..
        },
    ] = told.audit[..]
    else {
        panic!("{:?}", told.audit);
    };
    assert!(divergence.is_some() && applied == Index(3));
    // The state of the leader at entry 4.
    let mut other = Applier::new(MemberId(2), 1, state(), POLICY);
    for index in 1..=4 {
        effects(&mut other, entry(index));
    }
    let mut healed = ApplierEffects::default();
    applier.install(other.state, &mut healed);
    assert!(!applier.is_fenced());
    // With a full log nothing is appended until the engine has what is committed.
    let [Input::Durable { .. }] = healed.inputs[..] else {
        panic!("{:?}", healed.inputs);
    };
    let again = healed.again.iter().map(|entry| entry.entry.index.0);
    assert_eq!(again.collect::<Vec<_>>(), [5, 6]);
    effects(&mut applier, ApplierEvent::Committed(healed.again));
    assert_eq!(applier.applied(), Index(6));
}
