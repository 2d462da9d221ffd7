//! Effects of the applier: the backlog's report, and the end at an unknown command.

use std::fmt::Debug;

use bytes::Bytes;
use crossbeam::channel::bounded;
use keelson_core::engine::MemoryEngine;
use keelson_core::member::FlushPolicy;
use keelson_core::node::{Input, NodeStatus, Role, SoftState};
use keelson_core::state::{Genesis, Limits, StateMachine};
use keelson_core::{
    ClusterId, Committed, Entry, EntryKind, Index, MemberId, ProposalId, Term, proposal,
};
use keelson_proto::etcdserverpb::PutRequest;
use keelson_proto::internal::{Command, command::Op};
use prost::Message;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use super::*;
use crate::lease::LessorInbox;
use crate::member::worker::MemberExecutor;

fn status() -> NodeStatus {
    NodeStatus {
        soft_state: SoftState {
            leader: MemberId::NONE,
            role: Role::Follower,
            term: Term(0),
        },
        shown_term: Term(0),
        last: Index(0),
        committed: Index(0),
        delivered: Index(0),
        first: Index(0),
        log_bytes: 0,
    }
}

pub(crate) fn applier(executor: &Arc<MemberExecutor>, flushes: Sender<FlushJob>) -> ApplierShell {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let genesis = Genesis::default();
    let state = StateMachine::create(Arc::clone(&engine), genesis, Limits::default());
    let state = state.expect("an empty engine");
    let shared = Shared::new(ClusterId(1), MemberId(1), state.view(), status());
    let policy = FlushPolicy {
        interval_ms: 100,
        records: 10_000,
        bytes: 1 << 20,
        backlog_bytes_max: 8 << 20,
    };
    let applier = Applier::new(MemberId(1), 1, state, policy);
    let fatal = Fatal::new(Arc::new(|_| {}));
    ApplierShell {
        watches: Watches::new(Arc::clone(applier.watches()), fatal.clone()),
        applier,
        effects: ApplierEffects::default(),
        engine,
        flushes,
        waiters: Arc::new(Waiters::new(MemberId(1), 1)),
        reads: Arc::new(ReadBatches::new(Arc::clone(executor))),
        shared: Arc::new(shared),
        hub: Hub::new().0,
        lessor: Arc::new(LessorInbox::new(1)),
        metrics: Arc::default(),
        compaction: CompactionClock::default(),
        warning: Duration::MAX,
        warning_lines: RateLimit::default(),
        fatal,
    }
}

pub(crate) fn put(index: u64) -> Committed {
    let put = PutRequest {
        key: Bytes::from(index.to_string()),
        value: Bytes::from(vec![b'v'; 1 << 20]),
        ..PutRequest::default()
    };
    let command = Command {
        op: Some(Op::Put(put)),
    };
    let entry = Entry {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        data: proposal::encode(ProposalId::default(), &command.encode_to_vec()),
        context: Bytes::new(),
    };
    Committed { entry, conf: None }
}

fn backlog(handoff: &mut Handoff) -> Option<bool> {
    let reports = handoff.events.drain(..).filter_map(|event| match event {
        WorkerEvent::Core(ConsensusEvent::Input(Input::Backlogged(backlogged))) => Some(backlogged),
        _ => None,
    });
    reports.last()
}

/// b846fd5 let the memtable grow without limit while the engine was busy.
#[test]
fn a_slow_engine_is_reported_before_the_overlay_outgrows_its_bound() {
    let executor = MemberExecutor::new();
    let (flushes, flush_jobs) = bounded(1);
    let mut applier = applier(&executor, flushes);
    let mut handoff = Handoff::default();
    let mut reported = None;
    let mut index = 0;
    while reported.is_none() && index < 40 {
        index += 1;
        handoff.work.push(ApplierEvent::Committed(vec![put(index)]));
        applier.work(&mut handoff, Millis(0));
        reported = backlog(&mut handoff);
    }
    assert_eq!((reported, index), (Some(true), 8));
    // The engine catches up: first the immutable memtable, then the rest.
    for _ in 0..2 {
        let job = flush_jobs.try_recv().expect("a flush under way");
        let written = job.engine.write(&job.flush.batch);
        written.expect("memory does not fail");
        let (engine, flush) = (job.number, job.flush);
        handoff.work.push(ApplierEvent::Flushed { engine, flush });
        applier.work(&mut handoff, Millis(1_000));
    }
    assert_eq!(backlog(&mut handoff), Some(false));
}

/// An entry of a newer release was skipped but counted as applied.
#[test]
fn the_member_ends_before_a_command_that_it_does_not_understand() {
    let executor = MemberExecutor::new();
    let (flushes, _flush_jobs) = bounded(1);
    let mut applier = applier(&executor, flushes);
    let errors = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let handler = Arc::clone(&errors);
    applier.fatal = Fatal::new(Arc::new(move |text| handler.lock().push(text.to_owned())));
    let mut newer = put(2);
    newer.entry.data = proposal::encode(ProposalId::default(), &[0xf2, 0x3f, 0x02, 0x08, 0x01]);
    let mut handoff = Handoff::default();
    handoff
        .work
        .push(ApplierEvent::Committed(vec![put(1), newer, put(3)]));
    handoff.work.push(ApplierEvent::Committed(vec![put(4)]));
    applier.work(&mut handoff, Millis(0));
    assert_eq!(applier.applier.applied(), Index(1));
    handoff.work.push(ApplierEvent::Committed(vec![put(2)]));
    assert_eq!(applier.work(&mut handoff, Millis(1_000)), u64::MAX);
    assert_eq!(applier.applier.applied(), Index(1));
    let errors = errors.lock();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("entry 2") && errors[0].contains("Upgrade this member"));
}

/// The messages of log lines.
#[derive(Clone, Default)]
struct Messages(Arc<parking_lot::Mutex<Vec<String>>>);

impl Visit for Messages {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" || field.name() == "entries" {
            self.0.lock().push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Messages {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[test]
fn a_slow_apply_is_logged_in_etcds_words() {
    let executor = MemberExecutor::new();
    let (flushes, _flush_jobs) = bounded(1);
    let mut applier = applier(&executor, flushes);
    let messages = Messages::default();
    tracing::subscriber::with_default(messages.clone(), || {
        for (index, warning) in [(1, Duration::MAX), (3, Duration::ZERO)] {
            applier.warning = warning;
            let entries = vec![put(index), put(index + 1)];
            let mut handoff = Handoff::default();
            handoff.work.push(ApplierEvent::Committed(entries));
            applier.work(&mut handoff, Millis(0));
        }
    });
    let mut messages = std::mem::take(&mut *messages.0.lock());
    messages.sort();
    assert_eq!(messages, ["2", "apply request took too long"]);
}
