//! What the member does on one thread at a time: consensus decides, then the applier applies.
//!
//! `keelson_executor` decides which thread that is. A round runs no IO; what waits for a disk or a peer
//! has threads and tasks of its own. What consensus and the applier hand each other needs no lock and no
//! concurrent queue: no other thread has it.

use std::collections::VecDeque;

use keelson_core::MemberId;
use keelson_core::Millis;
use keelson_core::member::{EngineNumber, Event as CoreEvent, Work};
use keelson_core::node::Input;
use keelson_core::state::Flush;
use keelson_executor::{Events, Executor, Worked};
use keelson_proto::peer::{PeerMessage, RaftMessage};
use tokio::sync::oneshot;

use super::applier_shell::ApplierShell;
use super::consensus_shell::ConsensusShell;
use super::fatal::Fatal;
use super::staging::Staged;

/// The member's executor: everything that brings it events has it.
pub(crate) type Turns = Executor<Worker>;

/// Something for the member.
pub(crate) enum Event {
    /// For consensus, as it is.
    Core(CoreEvent),
    /// From a peer; what the messages weigh, in bytes.
    Peer(MemberId, Vec<PeerMessage>, usize),
    /// A snapshot has arrived whole. Answers when it is installed, or found stale.
    SnapshotStaged(RaftMessage, Box<Staged>, oneshot::Sender<bool>),
    /// The links must follow the members.
    MembersChanged,
    /// An engine holds that flush.
    Flushed(EngineNumber, Flush),
}

impl From<Input> for Event {
    fn from(input: Input) -> Event {
        Event::Core(CoreEvent::Input(input))
    }
}

/// Events that one round takes: more would only delay the first one's answer.
const TURN_MAX: usize = 1024;

/// What consensus and the applier hand each other.
#[derive(Default)]
pub(crate) struct Handed {
    /// For the applier, in order. Nothing is left after a round.
    pub(crate) work: Vec<Work>,
    /// For consensus, in its next turn, before what others bring.
    pub(crate) events: VecDeque<Event>,
}

/// Consensus and the applier, each with what its effects go to.
pub(crate) struct Worker {
    consensus: ConsensusShell,
    applier: ApplierShell,
    handed: Handed,
    fatal: Fatal,
    /// When each of the two is due, in milliseconds.
    consensus_due: u64,
    applier_due: u64,
    /// How much the last turn of consensus had to do: inputs and entries.
    load: usize,
}

impl Worker {
    pub(crate) fn new(consensus: ConsensusShell, applier: ApplierShell) -> Worker {
        Worker {
            fatal: consensus.fatal.clone(),
            consensus,
            applier,
            handed: Handed::default(),
            consensus_due: 0,
            applier_due: 0,
            load: 0,
        }
    }

    /// Takes events. Returns whether any is for consensus.
    fn take(&mut self, others: &mut Events<'_, Event>) -> bool {
        let Handed { work, events } = &mut self.handed;
        let mut is_any = false;
        let waiting = std::iter::from_fn(|| events.pop_front().or_else(|| others.next()));
        for event in waiting.take(TURN_MAX) {
            is_any |= !matches!(event, Event::Flushed(..));
            self.consensus.take(event, work);
        }
        is_any
    }

    /// Consensus, then the applier; each only if something waits for it or it is due.
    fn round(&mut self, now_ms: u64, others: &mut Events<'_, Event>) {
        let now = Millis(now_ms);
        if self.take(others) || self.consensus_due <= now_ms {
            let (handed, applier) = (&mut self.handed, &mut self.applier);
            (self.load, self.consensus_due) = self.consensus.turn(now, handed, applier);
        }
        if !self.handed.work.is_empty() || self.applier_due <= now_ms {
            self.applier_due = self.applier.work(&mut self.handed, now);
        }
    }

    /// The member cannot go on: what waits for an event's answer ends as the event is dropped.
    fn end(&mut self, others: &mut Events<'_, Event>) -> Worked {
        self.consensus.events.clear();
        self.handed = Handed::default();
        others.for_each(drop);
        Worked {
            load: 0,
            due_ms: u64::MAX,
        }
    }

    /// Writes what no flush has taken yet: the member is going down. `left` has come too late for a
    /// round.
    pub(crate) fn close(self, left: Vec<Event>) {
        let Worker {
            consensus,
            mut applier,
            mut handed,
            ..
        } = self;
        // The log's thread ends with it.
        drop(consensus);
        for event in left {
            if let Event::Flushed(engine, flush) = event {
                handed.work.push(Work::Flushed { engine, flush });
            }
        }
        applier.handle(&mut handed);
        applier.close();
    }
}

impl keelson_executor::Worker for Worker {
    type Event = Event;

    /// A lone request never makes more than three inputs and entries.
    const CROWD: usize = 5;

    /// Under load turns are a millisecond or two apart.
    const CROWD_US: u64 = 10_000;

    fn work(&mut self, now_ms: u64, mut events: Events<'_, Event>) -> Worked {
        if !self.fatal.is_raised() {
            self.round(now_ms, &mut events);
        }
        if self.fatal.is_raised() {
            return self.end(&mut events);
        }
        let due_ms = match self.handed.events.is_empty() {
            true => self.consensus_due.min(self.applier_due),
            false => now_ms,
        };
        Worked {
            load: self.load,
            due_ms,
        }
    }

    fn panicked(&mut self) {
        self.fatal.raise_panic("a turn");
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

    /// Otherwise a flush seems to be under way, and what was applied since is only in the log.
    #[tokio::test]
    async fn a_flush_that_ended_during_the_stop_is_followed_by_the_last_one() {
        let turns = Turns::new();
        let (consensus, mut applier, _log) = member(&turns, &returning().0);
        let (flushes, flush_jobs) = bounded(1);
        applier.flushes = flushes;
        let engine = Arc::clone(&applier.engine);
        let mut handed = Handed::default();
        handed.work.push(Work::Committed(vec![put(1)]));
        applier.work(&mut handed, Millis(0));
        applier.work(&mut handed, Millis(1_000));
        let job = flush_jobs.try_recv().expect("a flush under way");
        handed.work.push(Work::Committed(vec![put(2)]));
        applier.work(&mut handed, Millis(1_000));
        job.engine
            .write(&job.flush.batch)
            .expect("memory does not fail");
        turns.begin(Worker::new(consensus, applier));
        turns
            .leave(Event::Flushed(job.number, job.flush))
            .expect("it runs");
        let (worker, left) = turns.stop();
        worker.expect("it was there").close(left);
        let state = StateMachine::open(engine, Limits::default());
        let state = state.expect("a sound engine").expect("it has a state");
        assert_eq!(state.applied().index, 2);
    }
}
