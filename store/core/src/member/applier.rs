//! The applier, which owns the state machine.
//!
//! It applies committed entries and releases linearizable reads once their index is applied. It
//! also decides when the memtable is flushed, when the compaction takes a step, and when the log
//! must wait for the engine.

use std::sync::Arc;

use crate::node::{Input, ReadReady};
use crate::state::{Applied, Capture, Error, Flush, HashOutcome, HashReport, ReadView};
use crate::state::{StateError, StateMachine};
use crate::watch::{WatchHub, WatchLimits};
use crate::{Committed, Index, MemberId, Millis, ProposalId};

use super::applied_reads::AppliedReads;
use super::auditor::AuditNote;

/// When the memtable is flushed to the engine.
#[derive(Clone, Copy, Debug)]
pub struct FlushPolicy {
    /// At this age of the oldest unflushed change, in milliseconds;
    pub interval_ms: u64,
    /// or at this number of unflushed records;
    pub records: usize,
    /// or at this number of unflushed bytes.
    pub bytes: u64,
    /// Beyond this number of unflushed bytes nothing is appended to the log.
    pub backlog_bytes_max: u64,
}

/// The pause between two steps of a compaction, in milliseconds. Each step removes few rows, so a
/// write waits microseconds for it.
const COMPACT_PAUSE_MS: u64 = 2;
/// The same pause while a capture or a hash holds the rows.
const HELD_PAUSE_MS: u64 = 100;

/// The number of an engine within one incarnation of the member: a snapshot brings a new engine
/// while the old one may still be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineNumber(u64);

/// An input of the applier. The order matters.
#[derive(Debug)]
pub enum ApplierEvent {
    /// Entries are committed, in index order.
    Committed(Vec<Committed>),
    /// A linearizable read, to be answered once its index is applied.
    Read(ReadReady),
    /// The clients of that read have left.
    ReadCancelled {
        /// `ReadReady::context`.
        context: u64,
    },
    /// A flush is durable in its engine.
    Flushed {
        /// The number from `ApplierEffects::flush`.
        engine: EngineNumber,
        /// The flush that was written.
        flush: Flush,
    },
    /// A follower needs a snapshot of the state.
    Capture,
}

/// Effects of the applier, to be carried out in the order of the fields.
#[derive(Debug, Default)]
pub struct ApplierEffects {
    /// The outcome of each entry, in order. Its events are for watchers, its response for the
    /// client of `id`. `id` is set only for requests of this incarnation of this member.
    pub applied: Vec<Applied>,
    /// The members changed: the links to peers must be updated.
    pub members_changed: bool,
    /// Reads that may be answered now, by their contexts.
    pub reads_done: Vec<u64>,
    /// Those whose index will not be applied here, since this member's state differs.
    pub reads_refused: Vec<u64>,
    /// Inputs for the node.
    pub inputs: Vec<Input>,
    /// For consensus, about the comparison of hashes.
    pub audit: Vec<AuditNote>,
    /// Entries that were kept while the member differed: to be handed to the applier again, before
    /// all others.
    pub again: Vec<Committed>,
    /// The captured state, to be sent to followers.
    pub captured: Option<Capture>,
    /// A batch for the engine of that number; report it with `ApplierEvent::Flushed` once durable.
    pub flush: Option<(EngineNumber, Flush)>,
}

/// The state machine, the reads that wait for it, and the policy of its flushes.
pub struct Applier {
    member: MemberId,
    incarnation: u64,
    state: StateMachine,
    /// A view of `state`.
    view: ReadView,
    watches: Arc<WatchHub>,
    engine: EngineNumber,
    policy: FlushPolicy,
    reads: AppliedReads,
    flush_due: Option<Millis>,
    flushing: bool,
    /// As last reported to the node.
    backlogged: bool,
    compact_at: Millis,
    compact_steps: u64,
    /// As last reported to consensus.
    audited: Option<AuditNote>,
    /// Entries that this member must not apply, since its state differs from the majority's. The
    /// log in memory has them as well, and bounds them.
    kept: Vec<Committed>,
}

impl Applier {
    /// An applier for this incarnation of the member.
    pub fn new(
        member: MemberId,
        incarnation: u64,
        state: StateMachine,
        policy: FlushPolicy,
    ) -> Applier {
        Applier {
            member,
            incarnation,
            watches: WatchHub::new(state.view()),
            view: state.view(),
            state,
            engine: EngineNumber::default(),
            policy,
            reads: AppliedReads::default(),
            flush_due: None,
            flushing: false,
            backlogged: false,
            compact_at: Millis::default(),
            compact_steps: 0,
            audited: None,
            kept: Vec::new(),
        }
    }

    /// The same, with other limits of the watches.
    pub fn with_watch_limits(self, limits: WatchLimits) -> Applier {
        Applier {
            watches: WatchHub::with_limits(self.state.view(), limits),
            ..self
        }
    }

    /// The watches of the v3 API. [`WatchHub::fan_out`] must be called after entries are applied.
    pub fn watches(&self) -> &Arc<WatchHub> {
        &self.watches
    }

    /// A view of the applied state.
    pub fn view(&self) -> &ReadView {
        &self.view
    }

    /// The state machine.
    pub fn state(&self) -> &StateMachine {
        &self.state
    }

    /// Processes an event.
    ///
    /// # Errors
    /// Fatal, as those of [`StateMachine::apply`]. `effects` holds the effects up to the failed
    /// entry, and must still be carried out.
    pub fn handle(
        &mut self,
        work: ApplierEvent,
        effects: &mut ApplierEffects,
    ) -> Result<(), StateError> {
        match work {
            ApplierEvent::Committed(entries) => return self.apply(entries, effects),
            ApplierEvent::Read(read) => {
                self.reads.add(read);
                self.release_reads(effects);
            }
            ApplierEvent::ReadCancelled { context } => self.reads.cancel(context),
            ApplierEvent::Flushed { engine, flush } => self.flushed(engine, flush, effects),
            // The state of a member that differs must not spread.
            ApplierEvent::Capture if self.is_fenced() => {}
            ApplierEvent::Capture => effects.captured = Some(self.state.capture()?),
        }
        Ok(())
    }

    fn apply(
        &mut self,
        entries: Vec<Committed>,
        effects: &mut ApplierEffects,
    ) -> Result<(), StateError> {
        let outcome = entries.into_iter().try_for_each(|committed| {
            if self.is_fenced() {
                self.keep(committed, effects);
                return Ok(());
            }
            let mine = committed.request().is_some_and(|id| self.is_mine(id));
            let mut applied = self.state.apply(&committed, mine)?;
            applied.id = applied.id.filter(|_| mine);
            if let Some(outcome) = applied.hash {
                let note = AuditNote::Applied(committed.entry.index, outcome);
                effects.audit.push(note);
            }
            if self.is_fenced() {
                self.watches.cut_all();
            }
            effects.applied.push(applied);
            effects.members_changed |= committed.conf.is_some();
            Ok(())
        });
        self.release_reads(effects);
        outcome
    }

    /// Whether this member serves no client, since its state differs from the majority's.
    pub fn is_fenced(&self) -> bool {
        self.state.divergence().is_some()
    }

    /// Keeps an entry for the state that replaces this one. Its client gets an error, although the
    /// entry is committed: the outcome is unknown to it.
    fn keep(&mut self, committed: Committed, effects: &mut ApplierEffects) {
        let id = committed.request().filter(|id| self.is_mine(*id));
        if let Some(id) = id {
            effects.applied.push(Applied {
                id: Some(id),
                response: Err(Error::Corrupt),
                revision: self.view.revision(),
                events: Vec::new(),
                leases: Vec::new(),
                hash: None,
            });
        }
        self.kept.push(committed);
    }

    /// Reports to consensus what it needs of the state.
    fn report_audit(&mut self, effects: &mut ApplierEffects) {
        if self.audited.is_none() && !self.is_fenced() {
            // The process may have ended before it was reported.
            effects.audit.extend(self.last_comparison());
        }
        let note = AuditNote::State {
            admitted: self.state.admits_hashes(),
            divergence: self.state.divergence(),
            applied: match self.is_fenced() {
                true => self.applied(),
                false => Index(0),
            },
        };
        if self.audited != Some(note) {
            self.audited = Some(note);
            effects.audit.push(note);
        }
    }

    fn last_comparison(&self) -> Option<AuditNote> {
        let hash = self.state.applied().hash?;
        let last = hash.compared.last()?;
        let report = HashReport {
            index: Index(last.index),
            value: Some(last.value),
        };
        Some(AuditNote::Applied(
            report.index,
            HashOutcome::Compared(report),
        ))
    }

    fn is_mine(&self, id: ProposalId) -> bool {
        id.member == self.member && id.incarnation == self.incarnation
    }

    fn release_reads(&mut self, effects: &mut ApplierEffects) {
        match self.is_fenced() {
            true => self
                .reads
                .release(Index(u64::MAX), &mut effects.reads_refused),
            false => self.reads.release(self.applied(), &mut effects.reads_done),
        }
    }

    fn flushed(&mut self, engine: EngineNumber, flush: Flush, effects: &mut ApplierEffects) {
        if engine == self.engine {
            self.flushing = false;
            self.state.flushed(flush);
            let index = self.state.durable();
            effects.inputs.push(Input::Durable { index });
        }
    }

    /// Performs due work after the waiting events are processed. Returns the latest time of the
    /// next call.
    pub fn tick(&mut self, now: Millis, effects: &mut ApplierEffects) -> Millis {
        if self.state.is_compacting() && self.compact_at <= now {
            let held = self.state.is_held() || !self.may_compact();
            if !held {
                self.state.compact_step();
                self.compact_steps += 1;
            }
            let pause_ms = match held {
                true => HELD_PAUSE_MS,
                false => COMPACT_PAUSE_MS,
            };
            self.compact_at = Millis(now.0 + pause_ms);
        }
        self.flush_if_due(now, effects);
        self.report_backlog(effects);
        self.report_audit(effects);
        self.due()
    }

    /// Whether the events of the rows that the compaction deletes have been delivered: a watcher
    /// that was there when they were written must not miss them.
    fn may_compact(&self) -> bool {
        let revision = self.state.compacting_to();
        revision.is_none_or(|revision| self.watches.has_delivered(revision))
    }

    /// The number of steps of compactions so far.
    pub fn compact_steps(&self) -> u64 {
        self.compact_steps
    }

    fn due(&self) -> Millis {
        let flush = self.flush_due.filter(|_| !self.flushing);
        let compact = self.state.is_compacting().then_some(self.compact_at);
        let due = [flush, compact].into_iter().flatten().min();
        due.unwrap_or(Millis(u64::MAX))
    }

    fn flush_if_due(&mut self, now: Millis, effects: &mut ApplierEffects) {
        let unflushed = self.state.unflushed();
        let nothing = unflushed.records == 0 && self.view.applied_index() == self.state.durable();
        if self.flushing || nothing {
            return;
        }
        let interval_ms = self.policy.interval_ms;
        let due = *self.flush_due.get_or_insert(Millis(now.0 + interval_ms));
        let full = self.policy.records <= unflushed.records || self.policy.bytes <= unflushed.bytes;
        if full || due <= now {
            self.flush_due = None;
            let flush = self.state.rotate();
            self.flushing = flush.is_some();
            effects.flush = flush.map(|flush| (self.engine, flush));
        }
    }

    /// Holds the log back while the engine is slow: the memtable would otherwise grow without
    /// bound.
    fn report_backlog(&mut self, effects: &mut ApplierEffects) {
        let backlogged = self.policy.backlog_bytes_max < self.state.backlog_bytes();
        if backlogged != self.backlogged {
            self.backlogged = backlogged;
            effects.inputs.push(Input::Backlogged(backlogged));
        }
    }

    /// Replaces the state by that of a snapshot, in a new engine. Reads that wait for an index
    /// within the snapshot are released.
    pub fn install(&mut self, state: StateMachine, effects: &mut ApplierEffects) {
        self.view = state.view();
        match self.is_fenced() {
            true => self.watches.replace_wrong_view(state.view()),
            false => self.watches.replace_view(state.view()),
        }
        self.state = state;
        let mut again = std::mem::take(&mut self.kept);
        again.retain(|committed| self.view.applied_index() < committed.entry.index);
        effects.again = again;
        self.engine.0 += 1;
        self.flush_due = None;
        self.flushing = false;
        effects.members_changed = true;
        // Nothing is left to flush, and a full log waits for this report.
        let index = self.state.durable();
        effects.inputs.push(Input::Durable { index });
        self.release_reads(effects);
        self.report_backlog(effects);
        self.report_audit(effects);
    }

    /// The applied index.
    pub fn applied(&self) -> Index {
        self.view.applied_index()
    }

    /// The final flush of a member that stops; `None` while another flush is in progress.
    pub fn last_flush(&mut self) -> Option<Flush> {
        match self.flushing {
            true => None,
            false => self.state.rotate(),
        }
    }
}

#[cfg(test)]
mod tests;
