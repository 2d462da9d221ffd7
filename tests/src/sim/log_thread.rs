//! The log's thread: carries out the decisions of the core's `LogBatch` and `LogPause` on the
//! virtual clock.

use keelson_core::member::{LogBatch, LogPause, LogWork, PauseStep, Written};
use keelson_core::node::{Append, Input};
use keelson_core::{LastIncluded, MemberId};
use std::collections::VecDeque;

use super::event::Event;
use super::mutant::Mutant;
use super::world::World;
use crate::invariant::Fact;

/// The state of a member's log thread.
#[derive(Default)]
pub(super) struct LogThread {
    /// Waiting work, in order.
    work: VecDeque<LogWork>,
    /// The work that is being written.
    writing: Option<Writing>,
    pause: LogPause,
    /// When the pause is used if no work comes, and whether that check is planned.
    pause_at: Option<u64>,
    pause_planned: bool,
}

/// Work in progress; each kind ends with a sync.
enum Writing {
    Batch(Written),
    Truncation(LastIncluded),
}

impl World {
    pub(super) fn append(&mut self, id: MemberId, mut append: Append) -> Result<(), String> {
        let fact = Fact::Appended {
            member: id,
            append: &append,
        };
        self.fact(&fact)?;
        if self.mutant == Some(Mutant::SendBeforeSync) {
            self.send(id, std::mem::take(&mut append.send_after))?;
        }
        if self.mutant == Some(Mutant::AckBeforeCommit) {
            self.acknowledge_early(id, &append);
        }
        if self.mutant == Some(Mutant::EventBeforeCommit) {
            self.send_events_early(id, &append)?;
        }
        self.queue_log(id, LogWork::Append(append));
        Ok(())
    }

    pub(super) fn queue_log(&mut self, id: MemberId, work: LogWork) {
        if let Some(life) = self.life(id) {
            life.log_thread.work.push_back(work);
            self.begin_sync(id);
        }
    }

    /// Gathers a batch of the waiting work and writes it; the sync ends later.
    fn begin_sync(&mut self, id: MemberId) {
        let delay = self.sync_ms().max(self.disk_stalls_ms(id));
        let Some(life) = self.life(id) else {
            return;
        };
        let (log, thread) = (&mut life.log, &mut life.log_thread);
        if thread.writing.is_some() {
            return;
        }
        let mut batch = LogBatch::default();
        while batch.has_room()
            && let Some(work) = thread.work.pop_front()
        {
            batch.push(work);
        }
        if batch.is_empty() {
            return;
        }
        let written =
            batch.write(|record| log.append(record.hard_state, record.entries, record.mark));
        let written = written.expect("the simulated disk fails only when it crashes");
        let delay = if written.must_sync() { delay } else { 0 };
        let last = written.appends().last().map(|append| append.number);
        thread.writing = Some(Writing::Batch(written));
        (thread.pause, thread.pause_at) = (LogPause::default(), None);
        let boot = log.boot();
        self.clock.after(delay, Event::Synced(id, boot));
        if let Some(number) = last.filter(|_| self.mutant == Some(Mutant::PersistedEarly)) {
            self.input(id, Input::Persisted { number });
        }
    }

    pub(super) fn sync_ms(&mut self) -> u64 {
        let most = match self.dice.chance(self.swarm.slow_sync) {
            true => self.swarm.sync_ms * 50,
            false => self.swarm.sync_ms,
        };
        self.dice.between(0, most)
    }

    pub(super) fn synced(&mut self, id: MemberId) -> Result<(), String> {
        let life = self.life(id);
        match life.and_then(|life| life.log_thread.writing.take()) {
            Some(Writing::Batch(written)) => self.batch_synced(id, written)?,
            Some(Writing::Truncation(mark)) => self.truncated(id, mark)?,
            None => {}
        }
        self.begin_sync(id);
        self.plan_pause(id);
        Ok(())
    }

    fn batch_synced(&mut self, id: MemberId, written: Written) -> Result<(), String> {
        let only_votes = |append: &Append| append.entries.is_empty() && append.snapshot.is_none();
        let skip = match self.mutant {
            Some(Mutant::VoteNotSynced) => written.appends().iter().all(only_votes),
            Some(Mutant::NothingSynced) => true,
            _ => false,
        };
        if let Some(life) = self.life(id).filter(|_| written.must_sync() && !skip) {
            let synced = life.log.sync();
            synced.expect("the simulated disk fails only when it crashes");
        }
        let effects = written.synced();
        if let Some(number) = effects.persisted {
            self.invariants
                .observe(&Fact::Synced { member: id, number })?;
            self.input(id, Input::Persisted { number });
        }
        self.send(id, effects.send)?;
        if let Some(mark) = effects.truncate {
            self.begin_truncation(id, mark);
        }
        Ok(())
    }

    /// Writes the last included entry's record; a crash before its sync may leave it or not.
    fn begin_truncation(&mut self, id: MemberId, mark: LastIncluded) {
        let delay = self.sync_ms().max(self.disk_stalls_ms(id));
        let Some(life) = self.life(id) else {
            return;
        };
        let gathered = life.log.append(None, &[], Some(mark));
        gathered.expect("the simulated disk fails only when it crashes");
        life.log_thread.writing = Some(Writing::Truncation(mark));
        let boot = life.log.boot();
        self.clock.after(delay, Event::Synced(id, boot));
    }

    fn truncated(&mut self, id: MemberId, mark: LastIncluded) -> Result<(), String> {
        if let Some(life) = self.life(id) {
            let truncated = life.log.truncate_before(mark.index, mark.term);
            truncated.expect("the simulated disk fails only when it crashes");
        }
        self.fact(&Fact::Truncated {
            member: id,
            index: mark.index,
        })
    }

    /// The log is idle, perhaps for long: plans a check.
    fn plan_pause(&mut self, id: MemberId) {
        let now = self.clock.now_ms();
        let Some(life) = self.life(id) else {
            return;
        };
        let thread = &mut life.log_thread;
        if thread.writing.is_some() {
            return;
        }
        let after_ms = thread.pause.after_ms();
        thread.pause_at = after_ms.map(|after_ms| now + after_ms);
        if let Some(after_ms) = after_ms
            && !std::mem::replace(&mut thread.pause_planned, true)
        {
            let boot = life.log.boot();
            self.clock.after(after_ms, Event::LogPause(id, boot));
        }
    }

    /// Uses a pause of the log, if it still lasts.
    pub(super) fn log_pauses(&mut self, id: MemberId) -> Result<(), String> {
        let now = self.clock.now_ms();
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let (log, thread) = (&mut life.log, &mut life.log_thread);
        thread.pause_planned = false;
        let Some(at) = thread.pause_at else {
            return Ok(());
        };
        if now < at {
            thread.pause_planned = true;
            let boot = log.boot();
            self.clock.after(at - now, Event::LogPause(id, boot));
            return Ok(());
        }
        let rests = matches!(thread.pause, LogPause::NoteEnd);
        let done = match thread.pause {
            LogPause::Prepare => log.prepare_next(),
            LogPause::NoteEnd => log.note_end().map(|()| false),
            LogPause::Rest => Ok(false),
        };
        let step = match done.expect("the simulated disk fails only when it crashes") {
            true => PauseStep::More,
            false => PauseStep::Done,
        };
        thread.pause = thread.pause.next(step);
        self.plan_pause(id);
        match rests {
            true => self.fact(&Fact::Rested { member: id }),
            false => Ok(()),
        }
    }
}
