//! A fatal handler that returns: the member must do no more work.

use std::sync::atomic::AtomicUsize;

use crossbeam::channel::{Receiver, TryRecvError, bounded, unbounded};
use keelson_core::engine::{Engine, MemoryEngine};
use keelson_core::member::{Consensus, LogWork, Offer};
use keelson_core::node::{Input, Node, NodeConfig, Restored};
use keelson_core::state::{Genesis, Limits, StateMachine};
use keelson_core::{ClusterId, Index, LastIncluded, MemberId, ProposalId, Term};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{AppliedMark, ConfState};
use keelson_proto::peer::{RaftMessage, RaftSnapshotMeta};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;
use crate::disk::{Disk, RealDisk};
use crate::engine::generation::Generations;
use crate::member::applier_shell::{self, ApplierShell};
use crate::member::consensus_shell::ConsensusShell;
use crate::member::inbox;
use crate::member::snapshot_slot::SharedSlot;
use crate::member::staging::Staged;
use crate::member::worker::{MemberExecutor, Worker, WorkerEvent};
use crate::peer::Links;

const CLUSTER: ClusterId = ClusterId(1);
pub(crate) const ME: MemberId = MemberId(1);
/// `MsgSnapshot` in raft-rs.
const SNAPSHOT: u32 = 7;

fn mark(index: u64, term: u64) -> AppliedMark {
    AppliedMark {
        index,
        term,
        conf_state: Some(conf_state()),
        hash: None,
    }
}

fn conf_state() -> ConfState {
    ConfState {
        voters: vec![1, 2],
        ..ConfState::default()
    }
}

fn state(mark: AppliedMark) -> (Arc<dyn Engine>, StateMachine) {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let member = |id| Member {
        id,
        ..Member::default()
    };
    let genesis = Genesis {
        cluster_id: CLUSTER,
        members: vec![member(1), member(2)],
        mark,
    };
    let state = StateMachine::create(Arc::clone(&engine), genesis, Limits::default());
    (engine, state.expect("an empty engine"))
}

/// A snapshot whose directory is missing, so that it cannot become the current one.
async fn lost_snapshot(dir: &std::path::Path) -> Staged {
    let generations = Generations::open(Arc::new(RealDisk), dir);
    let mut generations = generations.expect("an empty directory");
    let fresh = generations.begin().expect("there is room");
    RealDisk.remove_dir_all(&fresh.dir).expect("it is there");
    let (engine, state) = state(mark(10, 2));
    let shared = Arc::new(SharedSlot::default());
    let (slot, _) = shared.take(Offer::of(&offer())).await.expect("it is free");
    let generations = Arc::new(Mutex::new(generations));
    Staged::of(engine, state, generations, fresh, slot)
}

fn node() -> Node {
    let (_, state) = state(mark(1, 1));
    let restored = Restored {
        log_start: LastIncluded {
            index: Index(1),
            term: Term(1),
        },
        applied: mark(1, 1),
        roster: state.view().roster(),
        ..Restored::default()
    };
    let (node, _) = Node::new(NodeConfig::new(ME, 1), restored).expect("a fresh node");
    node
}

fn offer() -> RaftMessage {
    RaftMessage {
        kind: SNAPSHOT,
        to: 1,
        from: 2,
        term: 2,
        snapshot: Some(RaftSnapshotMeta {
            index: 10,
            term: 2,
            conf_state: Some(conf_state()),
        }),
        ..RaftMessage::default()
    }
}

/// A new follower, one of two voters, whose log accepts no work.
pub(crate) fn member(
    executor: &Arc<MemberExecutor>,
    fatal: &Fatal,
) -> (ConsensusShell, ApplierShell, Receiver<LogWork>) {
    let (log, log_jobs) = unbounded();
    let (flushes, _) = bounded(1);
    let mut applier = applier_shell::tests::applier(executor, flushes);
    applier.fatal = fatal.clone();
    let shared = Arc::clone(&applier.shared);
    let runtime = tokio::runtime::Handle::current();
    let listener = inbox::listener(Arc::clone(executor), Arc::clone(&shared));
    let consensus = ConsensusShell {
        consensus: Consensus::new(node(), 10_000),
        executor: Arc::clone(executor),
        log,
        outbox: Links::new(CLUSTER, ME, 1, listener, runtime),
        waiters: Arc::clone(&applier.waiters),
        reads: Arc::clone(&applier.reads),
        shared,
        lessor: Arc::clone(&applier.lessor),
        fatal: fatal.clone(),
        events: Vec::new(),
        staged: None,
        snapshot_trouble: Arc::default(),
    };
    (consensus, applier, log_jobs)
}

/// A handler that returns, and the number of its calls.
pub(crate) fn returning() -> (Fatal, Arc<AtomicUsize>) {
    let raised = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&raised);
    let fatal = Fatal::new(Arc::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    (fatal, raised)
}

/// The log began anew at the snapshot's mark although the directory still named the old state,
/// and the sender received a success.
#[tokio::test]
async fn nothing_follows_a_failed_installation_when_the_handler_returns() {
    let dir = tempfile::tempdir().expect("a directory");
    let (fatal, raised) = returning();
    let executor = MemberExecutor::new();
    let (consensus, applier, log_jobs) = member(&executor, &fatal);
    executor.start(Worker::new(consensus, applier));
    let (answer, mut answered) = oneshot::channel();
    let staged = Box::new(lost_snapshot(&dir.path().join("snap")).await);
    let event = WorkerEvent::SnapshotStaged(offer(), staged, answer);
    executor.send(event).expect("it runs");
    assert_eq!(raised.load(Ordering::SeqCst), 1);
    assert_eq!(log_jobs.try_recv().err(), Some(TryRecvError::Empty));
    assert!(answered.try_recv().is_err(), "not reported as installed");
    // Later events have no effect either.
    let event = WorkerEvent::from(Input::PeerDown(MemberId(2)));
    executor.send(event).expect("it is not stopped");
    assert_eq!(log_jobs.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!(raised.load(Ordering::SeqCst), 1);
}

/// A panic that unwinds, in an embedder's process or in a test, left the worker's slot taken: the
/// member stopped working, and no fatal error was raised.
#[tokio::test]
async fn a_panic_in_a_turn_ends_the_member() {
    let (fatal, raised) = returning();
    let executor = MemberExecutor::new();
    let (consensus, applier, log_jobs) = member(&executor, &fatal);
    // The node panics at a proposal id of another member, so this test sends one.
    let (id, _outcome) = applier.waiters.add();
    executor.start(Worker::new(consensus, applier));
    let strange = ProposalId {
        member: MemberId(2),
        ..id
    };
    let command = bytes::Bytes::new();
    let panicking = Arc::clone(&executor);
    let panicked = std::thread::spawn(move || {
        let event = WorkerEvent::from(Input::Propose {
            id: strange,
            command,
        });
        let _ = panicking.send(event);
    });
    panicked
        .join()
        .expect("the client's thread has no part in it");
    assert_eq!(raised.load(Ordering::SeqCst), 1);
    let event = WorkerEvent::from(Input::PeerDown(MemberId(2)));
    executor.send(event).expect("it is not stopped");
    assert_eq!(log_jobs.try_recv().err(), Some(TryRecvError::Empty));
    assert!(executor.stop().0.is_some(), "it can still be stopped");
}
