//! The worker of a member: consensus decides, then the applier applies, on one thread at a time.
//!
//! `keelson_executor` chooses the thread. A round does no blocking IO; disks and peers have
//! threads and tasks of their own. Consensus and the applier exchange work without a lock or a
//! concurrent queue, since no other thread has access to it.

use std::collections::VecDeque;

use keelson_core::MemberId;
use keelson_core::Millis;
use keelson_core::member::{ApplierEvent, ConsensusEvent, EngineNumber};
use keelson_core::node::Input;
use keelson_core::state::{Capture, Flush};
use keelson_executor::{Events, Executor, RoundOutcome};
use keelson_proto::peer::{PeerMessage, RaftMessage};
use tokio::sync::oneshot;

use super::applier_shell::ApplierShell;
use super::consensus_shell::ConsensusShell;
use super::fatal::Fatal;
use super::staging::Staged;

/// The executor of the member's worker, shared by every source of events.
pub(crate) type MemberExecutor = Executor<Worker>;

/// An event for the worker.
pub(crate) enum WorkerEvent {
    /// An event for the core's consensus.
    Core(ConsensusEvent),
    /// Messages from a peer, and their size in bytes.
    Peer(MemberId, Vec<PeerMessage>, usize),
    /// A snapshot was received completely. The sender resolves to whether it was installed, not
    /// stale.
    SnapshotStaged(RaftMessage, Box<Staged>, oneshot::Sender<bool>),
    /// The members have changed, so the links must be updated.
    MembersChanged,
    /// An operator's request waits for a capture of the state.
    Capture(oneshot::Sender<Capture>),
    /// The flush is durable in that engine.
    Flushed(EngineNumber, Flush),
}

impl From<Input> for WorkerEvent {
    fn from(input: Input) -> WorkerEvent {
        WorkerEvent::Core(ConsensusEvent::Input(input))
    }
}

/// The most events of one round: more would only delay the answer to the first.
const TURN_MAX: usize = 1024;

/// The work that consensus and the applier leave for each other.
#[derive(Default)]
pub(crate) struct Handoff {
    /// For the applier, in order. Empty after a round.
    pub(crate) work: Vec<ApplierEvent>,
    /// For consensus in its next round, before new events.
    pub(crate) events: VecDeque<WorkerEvent>,
    /// Requests that wait for a capture of the state. Empty after a round.
    pub(crate) captures: Vec<oneshot::Sender<Capture>>,
}

impl Handoff {
    fn is_for_applier(&self) -> bool {
        !self.work.is_empty() || !self.captures.is_empty()
    }
}

/// Consensus and the applier, each with the targets of its effects.
pub(crate) struct Worker {
    consensus: ConsensusShell,
    applier: ApplierShell,
    handoff: Handoff,
    fatal: Fatal,
    /// When consensus and the applier are due, in milliseconds.
    consensus_due: u64,
    applier_due: u64,
    /// The load of consensus's last round: inputs and entries.
    load: usize,
}

impl Worker {
    pub(crate) fn new(consensus: ConsensusShell, applier: ApplierShell) -> Worker {
        Worker {
            fatal: consensus.fatal.clone(),
            consensus,
            applier,
            handoff: Handoff::default(),
            consensus_due: 0,
            applier_due: 0,
            load: 0,
        }
    }

    /// Takes events. Returns whether any is for consensus.
    fn take(&mut self, others: &mut Events<'_, WorkerEvent>) -> bool {
        let Handoff {
            work,
            events,
            captures,
        } = &mut self.handoff;
        let mut is_any = false;
        let waiting = std::iter::from_fn(|| events.pop_front().or_else(|| others.next()));
        for event in waiting.take(TURN_MAX) {
            if let WorkerEvent::Capture(waiter) = event {
                captures.push(waiter);
                continue;
            }
            is_any |= !matches!(event, WorkerEvent::Flushed(..));
            self.consensus.take(event, work);
        }
        is_any
    }

    /// Runs consensus, then the applier, each only if it has work or is due.
    fn round(&mut self, now_ms: u64, others: &mut Events<'_, WorkerEvent>) {
        let now = Millis(now_ms);
        if self.take(others) || self.consensus_due <= now_ms {
            let (handoff, applier) = (&mut self.handoff, &mut self.applier);
            (self.load, self.consensus_due) = self.consensus.round(now, handoff, applier);
        }
        if self.handoff.is_for_applier() || self.applier_due <= now_ms {
            self.applier_due = self.applier.work(&mut self.handoff, now);
        }
    }

    /// Drops all work after a fatal error, so that every request that waits for it ends.
    fn end(&mut self, others: &mut Events<'_, WorkerEvent>) -> RoundOutcome {
        self.consensus.events.clear();
        self.handoff = Handoff::default();
        others.for_each(drop);
        RoundOutcome {
            load: 0,
            due_ms: u64::MAX,
        }
    }

    /// Writes what no flush has taken yet, as the member shuts down. `left` are events that came
    /// after the last round.
    pub(crate) fn close(self, left: Vec<WorkerEvent>) {
        let Worker {
            consensus,
            mut applier,
            mut handoff,
            ..
        } = self;
        // The log writer's thread ends when its sender is dropped.
        drop(consensus);
        for event in left {
            if let WorkerEvent::Flushed(engine, flush) = event {
                handoff.work.push(ApplierEvent::Flushed { engine, flush });
            }
        }
        applier.handle(&mut handoff);
        applier.close();
    }
}

impl keelson_executor::Worker for Worker {
    type Event = WorkerEvent;

    /// A single request causes at most three inputs and entries.
    const BUSY_LOAD: usize = 5;

    /// Under load, rounds are one or two milliseconds apart.
    const BUSY_US: u64 = 10_000;

    fn work(&mut self, now_ms: u64, mut events: Events<'_, WorkerEvent>) -> RoundOutcome {
        if !self.fatal.is_raised() {
            self.round(now_ms, &mut events);
        }
        if self.fatal.is_raised() {
            return self.end(&mut events);
        }
        let due_ms = match self.handoff.events.is_empty() {
            true => self.consensus_due.min(self.applier_due),
            false => now_ms,
        };
        RoundOutcome {
            load: self.load,
            due_ms,
        }
    }

    fn panicked(&mut self) {
        self.fatal.raise_panic("a round of the worker");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam::channel::bounded;
    use keelson_core::state::{Limits, StateMachine};

    use super::*;
    use crate::member::applier_shell::tests::put;
    use crate::member::fatal::tests::{member, returning};

    /// Without the event a flush seems to be running, and later entries are only in the log.
    #[tokio::test]
    async fn a_flush_that_ended_during_the_stop_is_followed_by_the_last_one() {
        let executor = MemberExecutor::new();
        let (consensus, mut applier, _log) = member(&executor, &returning().0);
        let (flushes, flush_jobs) = bounded(1);
        applier.flushes = flushes;
        let engine = Arc::clone(&applier.engine);
        let mut handoff = Handoff::default();
        handoff.work.push(ApplierEvent::Committed(vec![put(1)]));
        applier.work(&mut handoff, Millis(0));
        applier.work(&mut handoff, Millis(1_000));
        let job = flush_jobs.try_recv().expect("a flush under way");
        handoff.work.push(ApplierEvent::Committed(vec![put(2)]));
        applier.work(&mut handoff, Millis(1_000));
        job.engine
            .write(&job.flush.batch)
            .expect("memory does not fail");
        executor.start(Worker::new(consensus, applier));
        executor
            .enqueue(WorkerEvent::Flushed(job.number, job.flush))
            .expect("it runs");
        let (worker, left) = executor.stop();
        worker.expect("it was there").close(left);
        let state = StateMachine::open(engine, Limits::default());
        let state = state.expect("a sound engine").expect("it has a state");
        assert_eq!(state.applied().index, 2);
    }
}
