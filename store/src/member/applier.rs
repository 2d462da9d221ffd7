//! The applier: the one owner of the state machine. Whose thread runs it is `turns.rs`'s affair.
//!
//! It applies what is committed, answers the requests of this member's clients, lets linearizable
//! reads go once their index is reached, and hands full overlays to the flush thread. Nothing on the
//! request path waits for the engine's disk.

use std::sync::Arc;

use crossbeam::channel::Sender;
use crossbeam::queue::SegQueue;
use keelson_core::engine::Engine;
use keelson_core::node::Input;
use keelson_core::state::{Capture, Flush, ReadView, StateError, StateMachine};
use keelson_core::tree::Action;
use keelson_core::{Committed, Index, SnapshotMark};
use keelson_proto::internal;
use tokio::sync::oneshot;

use super::applied_reads::AppliedReads;
use super::driver::Event;
use super::fatal::Fatal;
use super::flusher::FlushJob;
use super::turns::Turns;
use super::waiters::{Outcome, Waiters};
use crate::shared::Shared;
use crate::tree::Hub;

/// What the applier is asked to do, in order.
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
}

/// When the overlay is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlushPolicy {
    pub(crate) interval_ms: u64,
    pub(crate) records: usize,
    pub(crate) bytes: u64,
    /// Beyond this many bytes that the engine lacks, nothing more is taken into the log.
    pub(crate) backlog_bytes_max: u64,
}

/// Rows of dead revisions that one step removes: small enough that a write behind it waits for
/// microseconds.
const COMPACT_PAUSE_MS: u64 = 2;
/// Until the next look when a capture or a hash needs the rows.
const HELD_PAUSE_MS: u64 = 100;

pub(crate) struct Applier {
    pub(crate) state: StateMachine,
    /// The state machine's own view: cheap answers to cheap questions.
    pub(crate) view: ReadView,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) flushes: Sender<FlushJob>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) policy: FlushPolicy,
    pub(crate) fatal: Fatal,
    pub(crate) reads: AppliedReads,
    pub(crate) flush_due_ms: Option<u64>,
    pub(crate) flushing: bool,
    /// As the node was given it last.
    pub(crate) backlogged: bool,
    pub(crate) compact_at_ms: u64,
}

impl Applier {
    /// Does what waits, and what is due. Returns when it wants to be called again, in milliseconds of
    /// its clock, of which it is `now_ms` now.
    pub(crate) fn work(&mut self, jobs: &SegQueue<ApplyJob>, now_ms: u64) -> u64 {
        while let Some(job) = jobs.pop() {
            if self.fatal.is_raised() {
                continue;
            }
            if let Err(error) = self.take(job) {
                self.fatal.raise("applying committed entries", &error);
            }
        }
        if self.fatal.is_raised() {
            return u64::MAX;
        }
        if self.state.is_compacting() && self.compact_at_ms <= now_ms {
            self.state.compact_step();
            let pause_ms = match self.state.is_held() {
                true => HELD_PAUSE_MS,
                false => COMPACT_PAUSE_MS,
            };
            self.compact_at_ms = now_ms + pause_ms;
        }
        self.flush_if_due(now_ms);
        self.report_backlog();
        self.due_ms()
    }

    fn due_ms(&self) -> u64 {
        let flush = self.flush_due_ms.filter(|_| !self.flushing);
        let compacting = self.state.is_compacting();
        let compact = compacting.then_some(self.compact_at_ms);
        let due = flush.unwrap_or(u64::MAX);
        due.min(compact.unwrap_or(u64::MAX))
    }

    fn take(&mut self, job: ApplyJob) -> Result<(), StateError> {
        match job {
            ApplyJob::Committed(entries) => return self.apply(&entries),
            ApplyJob::Reads(index, readers) => {
                self.reads.add(index, readers);
                self.release_reads();
            }
            ApplyJob::Flushed { engine, flush } => self.flushed(&engine, flush),
            ApplyJob::Capture => {
                let capture = self.state.capture()?;
                let _ = self.turns.leave(Event::Captured(capture));
            }
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
            for event in &applied.events {
                self.hub.publish(event);
                if event.action == Action::Expire {
                    self.shared.note_expired();
                }
            }
            if let Some(id) = applied.id.filter(|_| mine) {
                self.waiters.settle(id, Outcome::Applied(applied.response));
            }
        }
        if members_changed {
            self.shared.note_members(&self.view);
            let _ = self.turns.leave(Event::MembersChanged);
        }
        self.shared.note_applied(self.view.applied_index());
        self.release_reads();
        Ok(())
    }

    fn release_reads(&mut self) {
        self.reads.release(self.view.applied_index());
    }

    fn flush_if_due(&mut self, now_ms: u64) {
        let unflushed = self.state.unflushed();
        let nothing = unflushed.records == 0 && self.view.applied_index() == self.state.durable();
        if self.flushing || nothing {
            return;
        }
        let due = *self
            .flush_due_ms
            .get_or_insert(now_ms + self.policy.interval_ms);
        let full = self.policy.records <= unflushed.records || self.policy.bytes <= unflushed.bytes;
        if full || due <= now_ms {
            self.start_flush();
        }
    }

    /// A slow engine holds the log back, or the overlay would grow without a bound.
    fn report_backlog(&mut self) {
        let backlogged = self.policy.backlog_bytes_max < self.state.backlog_bytes();
        if backlogged != self.backlogged {
            self.backlogged = backlogged;
            let _ = self
                .turns
                .leave(Event::Input(Input::Backlogged(backlogged)));
        }
    }

    fn start_flush(&mut self) {
        self.flush_due_ms = None;
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
            let _ = self.turns.leave(Event::Input(Input::Durable { index }));
        }
    }

    /// Goes on from a snapshot, once the data directory points at it.
    pub(crate) fn install(&mut self, staged: super::staging::Staged) {
        if self.fatal.is_raised() {
            return;
        }
        match staged.install() {
            Ok((engine, state)) => {
                self.engine = engine;
                self.state = state;
                self.view = self.state.view();
                self.flushing = false;
                self.shared.replace_view(self.view.clone());
                self.hub.resume(&self.view);
                self.shared.note_members(&self.view);
                self.shared.note_applied(self.view.applied_index());
                self.release_reads();
                self.report_backlog();
                let _ = self.turns.leave(Event::MembersChanged);
            }
            Err(error) => self.fatal.raise("installing a snapshot", &error),
        }
    }

    /// Writes what no flush has taken yet: the member is going down. A flush under way is left to
    /// its thread.
    pub(crate) fn close(mut self) {
        if self.flushing || self.fatal.is_raised() {
            return;
        }
        if let Some(flush) = self.state.freeze() {
            match self.engine.write(&flush.batch) {
                Ok(()) => self.state.flushed(flush),
                Err(error) => self.fatal.raise("writing to the storage engine", &error),
            }
        }
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

#[cfg(test)]
pub(crate) mod tests;
