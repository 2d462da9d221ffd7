//! The IO of the applier: carries out the effects that the core's applier returns: answers, watch
//! events, flushes, the engine of a snapshot.
//!
//! The decisions are made in `keelson_core::member::Applier`, which the simulator runs as well.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use keelson_core::Millis;
use keelson_core::engine::Engine;
use keelson_core::member::{Applier, ApplierEffects, ApplierEvent, ConsensusEvent};
use keelson_core::node::Role;
use keelson_core::state::{Applied, Capture, HashOutcome, LeaseChange};
use keelson_core::tree::Action;
use keelson_port::http2::RateLimit;
use tokio::sync::oneshot;
use tracing::warn;

use super::fatal::Fatal;
use super::flusher::FlushJob;
use super::waiters::{Outcome, Waiters};
use super::worker::{Handoff, WorkerEvent};
use crate::StateError;
use crate::lease::LessorInbox;
use crate::metrics::{CompactionClock, MemberMetrics, TTL_SECOND};
use crate::reads::ReadBatches;
use crate::shared::Shared;
use crate::tree::Hub;
use crate::watch::Watches;

/// Lines about slow batches in a second.
const WARNINGS_MAX: u32 = 10;

/// The applier, and the targets of its effects.
pub(crate) struct ApplierShell {
    pub(crate) applier: Applier,
    /// Kept between rounds, so that its buffers are reused.
    pub(crate) effects: ApplierEffects,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) flushes: Sender<FlushJob>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) reads: Arc<ReadBatches>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) lessor: Arc<LessorInbox>,
    pub(crate) watches: Watches,
    pub(crate) metrics: Arc<MemberMetrics>,
    pub(crate) compaction: CompactionClock,
    /// A batch that takes longer is logged.
    pub(crate) warning: Duration,
    pub(crate) warning_lines: RateLimit,
    pub(crate) fatal: Fatal,
}

impl ApplierShell {
    /// Applies the waiting work and what is due. Returns when it is due next, in milliseconds.
    pub(crate) fn work(&mut self, handoff: &mut Handoff, now: Millis) -> u64 {
        self.handle(handoff);
        if self.fatal.is_raised() {
            return u64::MAX;
        }
        let due = self.tick(now);
        self.carry_out(handoff);
        self.capture(&mut handoff.captures);
        due.0
    }

    /// Does what is due, and measures the compaction.
    fn tick(&mut self, now: Millis) -> Millis {
        let was_compacting = self.applier.state().is_compacting();
        let (began, steps) = (
            was_compacting.then(Instant::now),
            self.applier.compact_steps(),
        );
        let due = self.applier.tick(now, &mut self.effects);
        if let Some(began) = began
            && steps != self.applier.compact_steps()
        {
            self.metrics.compactions.step(began.elapsed());
        }
        let is_compacting = self.applier.state().is_compacting();
        self.compaction
            .note(is_compacting, &self.metrics.compactions);
        due
    }

    /// Gives a capture to those that wait, between two entries.
    fn capture(&mut self, waiting: &mut Vec<oneshot::Sender<Capture>>) {
        if self.applier.is_fenced() {
            // Those that wait get an error.
            waiting.clear();
        }
        if waiting.is_empty() {
            return;
        }
        match self.applier.state().capture() {
            Ok(capture) => waiting.drain(..).for_each(|waiter| {
                // A client that left needs none.
                let _ = waiter.send(capture.clone());
            }),
            Err(error) => self.fatal.raise("capturing the state", &error),
        }
    }

    /// Applies the waiting work.
    pub(crate) fn handle(&mut self, handoff: &mut Handoff) {
        let mut waiting = std::mem::take(&mut handoff.work);
        for work in waiting.drain(..) {
            if self.fatal.is_raised() {
                continue;
            }
            let began = Instant::now();
            let entries = match &work {
                ApplierEvent::Committed(entries) => entries.len(),
                _ => 0,
            };
            let handled = self.applier.handle(work, &mut self.effects);
            self.warn_if_slow(entries, began.elapsed());
            self.carry_out(handoff);
            if let Err(error) = handled {
                self.fatal.raise("applying committed entries", &error);
            }
        }
        // The buffer is reused for the next round.
        handoff.work = waiting;
    }

    /// etcd's line, for a batch in place of a request.
    fn warn_if_slow(&mut self, entries: usize, took: Duration) {
        let is_slow = entries != 0 && self.warning < took;
        self.metrics.slow_applies.add(is_slow.into());
        if is_slow && !self.warning_lines.exceeds(WARNINGS_MAX) {
            warn!(
                took = ?took,
                "expected-duration" = ?self.warning,
                entries,
                applied = self.applier.applied().0,
                "apply request took too long"
            );
        }
    }

    fn carry_out(&mut self, handoff: &mut Handoff) {
        let mut effects = std::mem::take(&mut self.effects);
        let has_applied = !effects.applied.is_empty() || effects.members_changed;
        for applied in effects.applied.drain(..) {
            self.answer(applied);
        }
        if effects.members_changed {
            self.shared.note_members(self.applier.view());
            handoff.events.push_back(WorkerEvent::MembersChanged);
        }
        if has_applied {
            self.shared.note_applied(self.applier.applied());
            if let Err(error) = self.watches.note_applied() {
                self.fatal.raise("reading events for watchers", &error);
            }
        }
        for context in effects.reads_done.drain(..) {
            self.reads.answer(context, &Ok(()));
        }
        for context in effects.reads_refused.drain(..) {
            let refused = Err(StateError::Corrupt.into());
            self.reads.answer(context, &refused);
        }
        let inputs = effects.inputs.drain(..);
        handoff.events.extend(inputs.map(WorkerEvent::from));
        for note in effects.audit.drain(..) {
            let note = ConsensusEvent::Audit(note);
            handoff.events.push_back(WorkerEvent::Core(note));
        }
        if !effects.again.is_empty() {
            let again = std::mem::take(&mut effects.again);
            handoff.work.push(ApplierEvent::Committed(again));
        }
        if let Some(capture) = effects.captured.take() {
            let captured = ConsensusEvent::Captured(capture);
            handoff.events.push_back(WorkerEvent::Core(captured));
        }
        if let Some((number, flush)) = effects.flush.take() {
            let engine = Arc::clone(&self.engine);
            let _ = self.flushes.send(FlushJob {
                engine,
                number,
                flush,
            });
        }
        effects.members_changed = false;
        self.effects = effects;
    }

    fn answer(&self, applied: Applied) {
        for event in &applied.events {
            self.hub.publish(event);
            if event.action == Action::Expire {
                self.shared.note_expired();
            }
        }
        if let Some(HashOutcome::Differs(divergence)) = applied.hash {
            self.metrics.divergences.add(1);
            tracing::error!("{divergence}");
            self.hub.begin_again(self.applier.view());
        }
        self.count_leases(&applied.leases);
        // The lessor of a member that does not lead begins with the view of the state.
        if !applied.leases.is_empty() && self.shared.soft_state().role == Role::Leader {
            self.lessor.note(applied.leases);
        }
        if let Some(id) = applied.id {
            self.waiters.settle(id, Outcome::Applied(applied.response));
        }
    }

    fn count_leases(&self, changes: &[LeaseChange]) {
        for change in changes {
            match change {
                LeaseChange::Granted(lease) => {
                    self.metrics.leases_granted.add(1);
                    let ttl = u32::try_from(lease.ttl).unwrap_or(u32::MAX);
                    self.metrics.lease_ttls.observe(ttl * TTL_SECOND);
                }
                LeaseChange::Gone(_) => self.metrics.leases_gone.add(1),
                LeaseChange::Checkpointed(_) => {}
            }
        }
    }

    /// Replaces the state with a snapshot's, after the data directory points at it.
    pub(crate) fn install(&mut self, staged: super::staging::Staged, handoff: &mut Handoff) {
        if self.fatal.is_raised() {
            return;
        }
        let began = Instant::now();
        let heals = self.applier.is_fenced();
        let is_installing = &self.metrics.is_installing;
        is_installing.store(true, Ordering::Relaxed);
        let installed = staged.install();
        is_installing.store(false, Ordering::Relaxed);
        match installed {
            Ok((engine, state)) => {
                if heals {
                    let index = state.applied().index;
                    tracing::info!(index, "this member has the leader's state and serves again");
                }
                self.metrics.snapshots.observe(began.elapsed());
                self.engine = engine;
                self.applier.install(state, &mut self.effects);
                self.shared.replace_view(self.applier.view().clone());
                match heals {
                    true => self.hub.begin_again(self.applier.view()),
                    false => self.hub.resume(self.applier.view()),
                }
                self.carry_out(handoff);
            }
            Err(error) => self.fatal.raise("installing a snapshot", &error),
        }
    }

    /// Writes what no flush has taken yet, as the member shuts down. A flush that is running is
    /// left to the flush thread.
    pub(crate) fn close(mut self) {
        if self.fatal.is_raised() {
            return;
        }
        if let Some(flush) = self.applier.last_flush()
            && let Err(error) = self.engine.write(&flush.batch)
        {
            self.fatal.raise("writing to the storage engine", &error);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
