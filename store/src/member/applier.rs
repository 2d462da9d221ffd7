//! The apply thread: the one owner of the state machine.
//!
//! It applies what is committed, answers the requests of this member's clients, lets linearizable
//! reads go once their index is reached, and hands full overlays to the flush thread. Nothing on the
//! request path waits for the engine's disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use keelson_core::engine::Engine;
use keelson_core::node::Input;
use keelson_core::state::{Capture, Flush, ReadView, StateError, StateMachine};
use keelson_core::{Committed, Index, SnapshotMark};
use keelson_proto::internal;
use tokio::sync::oneshot;

use super::driver::Event;
use super::fatal::Fatal;
use super::flusher::FlushJob;
use super::waiters::{Outcome, Waiters};
use crate::shared::Shared;

/// What the apply thread is asked to do, in order.
pub(crate) enum ApplyJob {
    /// Apply these.
    Committed(Vec<Committed>),
    /// Let these go once the index is applied.
    Reads(Index, Vec<oneshot::Sender<()>>),
    /// The flush thread wrote that into that engine.
    Flushed {
        engine: Arc<dyn Engine>,
        flush: Flush,
    },
    /// A follower needs the whole state.
    Capture,
    /// A snapshot arrived: go on from it. Answers once the data directory points at it.
    Install(Box<super::staging::Staged>, Sender<()>),
    /// Flush what there is, then answer: the member is going down.
    Close(Sender<()>),
}

/// When the overlay is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlushPolicy {
    pub(crate) interval: Duration,
    pub(crate) records: usize,
    pub(crate) bytes: u64,
}

/// Rows of dead revisions that one step removes: small enough that a write behind it waits for
/// microseconds.
const COMPACT_PAUSE: Duration = Duration::from_millis(2);

pub(crate) struct Applier {
    pub(crate) state: StateMachine,
    /// The state machine's own view: cheap answers to cheap questions.
    pub(crate) view: ReadView,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) jobs: Receiver<ApplyJob>,
    pub(crate) events: Sender<Event>,
    pub(crate) flushes: Sender<FlushJob>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) policy: FlushPolicy,
    pub(crate) fatal: Fatal,
    /// Reads by the index they wait for.
    pub(crate) reads: BTreeMap<Index, Vec<oneshot::Sender<()>>>,
    pub(crate) flush_due: Option<Instant>,
    pub(crate) flushing: bool,
    pub(crate) compacting: bool,
}

impl Applier {
    /// Runs until the driver hangs up or the member is closed.
    pub(crate) fn run(mut self) {
        self.compacting = true;
        loop {
            let job = match self.jobs.recv_timeout(self.patience()) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let done = match job {
                Some(ApplyJob::Close(closed)) => return self.close(&closed),
                Some(job) => self.take(job),
                None => {
                    self.compacting = self.compacting && self.state.compact_step();
                    Ok(())
                }
            };
            if let Err(error) = done {
                return self.fatal.raise("applying committed entries", &error);
            }
            self.flush_if_due();
        }
    }

    /// How long to wait for the next job.
    fn patience(&self) -> Duration {
        let mut patience = Duration::from_secs(3600);
        if let Some(due) = self.flush_due.filter(|_| !self.flushing) {
            patience = due.saturating_duration_since(Instant::now());
        }
        if self.compacting {
            patience = patience.min(COMPACT_PAUSE);
        }
        patience
    }

    fn take(&mut self, job: ApplyJob) -> Result<(), StateError> {
        match job {
            ApplyJob::Committed(entries) => return self.apply(&entries),
            ApplyJob::Reads(index, readers) => {
                self.reads.entry(index).or_default().extend(readers);
                self.release_reads();
            }
            ApplyJob::Flushed { engine, flush } => self.flushed(&engine, flush),
            ApplyJob::Capture => {
                let capture = self.state.capture()?;
                let _ = self.events.send(Event::Captured(capture));
            }
            ApplyJob::Install(staged, installed) => self.install(*staged, &installed),
            ApplyJob::Close(_) => unreachable!("taken by the caller"),
        }
        Ok(())
    }

    fn apply(&mut self, entries: &[Committed]) -> Result<(), StateError> {
        let mut members_changed = false;
        for committed in entries {
            members_changed |= committed.conf.is_some();
            let mine =
                super::waiters::request_of(committed).is_some_and(|id| self.waiters.is_mine(id));
            let applied = self.state.apply(committed, mine)?;
            if let Some(id) = applied.id.filter(|_| mine) {
                self.waiters.settle(id, Outcome::Applied(applied.response));
            }
        }
        if members_changed {
            self.shared.note_members(&self.view);
            let _ = self.events.send(Event::MembersChanged);
        }
        self.shared.note_applied(self.view.applied_index());
        self.release_reads();
        self.compacting = true;
        Ok(())
    }

    fn release_reads(&mut self) {
        let applied = self.view.applied_index();
        while let Some(first) = self
            .reads
            .first_entry()
            .filter(|first| *first.key() <= applied)
        {
            for reader in first.remove() {
                let _ = reader.send(());
            }
        }
    }

    fn flush_if_due(&mut self) {
        let unflushed = self.state.unflushed();
        let nothing = unflushed.records == 0 && self.view.applied_index() == self.state.durable();
        if self.flushing || nothing {
            return;
        }
        let now = Instant::now();
        let due = *self.flush_due.get_or_insert(now + self.policy.interval);
        let full = self.policy.records <= unflushed.records || self.policy.bytes <= unflushed.bytes;
        if full || due <= now {
            self.start_flush();
        }
    }

    fn start_flush(&mut self) {
        self.flush_due = None;
        if let Some(flush) = self.state.freeze() {
            self.flushing = true;
            let engine = Arc::clone(&self.engine);
            let _ = self.flushes.send(FlushJob { engine, flush });
        }
    }

    fn flushed(&mut self, engine: &Arc<dyn Engine>, flush: Flush) {
        // A snapshot may have replaced the engine while the old one was being written.
        if Arc::ptr_eq(engine, &self.engine) {
            self.flushing = false;
            self.state.flushed(flush);
            let index = self.state.durable();
            let _ = self.events.send(Event::Input(Input::Durable { index }));
        }
    }

    fn install(&mut self, staged: super::staging::Staged, installed: &Sender<()>) {
        match staged.install() {
            Ok((engine, state)) => {
                self.engine = engine;
                self.state = state;
                self.view = self.state.view();
                self.flushing = false;
                self.shared.replace_view(self.view.clone());
                self.shared.note_members(&self.view);
                self.shared.note_applied(self.view.applied_index());
                self.release_reads();
                let _ = installed.send(());
                let _ = self.events.send(Event::MembersChanged);
            }
            Err(error) => self.fatal.raise("installing a snapshot", &error),
        }
    }

    fn close(mut self, closed: &Sender<()>) {
        if !self.flushing
            && let Some(flush) = self.state.freeze()
        {
            if let Err(error) = self.engine.write(&flush.batch) {
                return self.fatal.raise("writing to the storage engine", &error);
            }
            self.state.flushed(flush);
        }
        let _ = closed.send(());
    }
}

/// The mark of a captured state machine.
pub(crate) fn mark_of(capture: &Capture) -> (SnapshotMark, internal::ConfState) {
    let mark = capture.mark();
    let at = SnapshotMark {
        index: Index(mark.index),
        term: keelson_core::Term(mark.term),
    };
    (at, mark.conf_state.clone().unwrap_or_default())
}
