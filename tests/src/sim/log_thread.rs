//! The log thread: takes what waits, writes it, and syncs once.

use keelson_core::MemberId;
use keelson_core::node::{Append, Input};

use super::mutant::Mutant;
use super::nodes::LogWork;
use super::world::{Event, World};
use crate::invariant::Fact;

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
        self.queue_log(id, LogWork::Append(append));
        Ok(())
    }

    pub(super) fn queue_log(&mut self, id: MemberId, work: LogWork) {
        if let Some(life) = self.life(id) {
            life.log_queue.push_back(work);
            self.begin_sync(id);
        }
    }

    /// The log thread takes all that waits, writes it, and syncs once.
    pub(super) fn begin_sync(&mut self, id: MemberId) {
        let delay = self.sync_ms();
        let Some(life) = self.life(id) else {
            return;
        };
        if !life.syncing.is_empty() || life.log_queue.is_empty() {
            return;
        }
        life.syncing = life.log_queue.drain(..).collect();
        for work in &life.syncing {
            let gathered = match work {
                LogWork::Append(append) => {
                    let mark = append.snapshot.as_ref().map(|(mark, _)| *mark);
                    life.log.append(append.hard_state, &append.entries, mark)
                }
                LogWork::Truncate(mark) => life.log.append(None, &[], Some(*mark)),
            };
            gathered.expect("the simulated disk fails only when it crashes");
        }
        let boot = life.log.boot();
        self.clock.after(delay, Event::Synced(id, boot));
    }

    pub(super) fn sync_ms(&mut self) -> u64 {
        let most = match self.dice.chance(self.swarm.slow_sync) {
            true => self.swarm.sync_ms * 50,
            false => self.swarm.sync_ms,
        };
        self.dice.between(0, most)
    }

    pub(super) fn synced(&mut self, id: MemberId) -> Result<(), String> {
        let mutant = self.mutant;
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let done = std::mem::take(&mut life.syncing);
        let only_votes = |work: &LogWork| match work {
            LogWork::Append(append) => append.entries.is_empty() && append.snapshot.is_none(),
            LogWork::Truncate(_) => false,
        };
        let skip = match mutant {
            Some(Mutant::VoteNotSynced) => done.iter().all(only_votes),
            Some(Mutant::NothingSynced) => true,
            _ => false,
        };
        if !skip {
            let synced = life.log.sync();
            synced.expect("the simulated disk fails only when it crashes");
        }
        let mut number = None;
        let mut sends = Vec::new();
        for work in done {
            match work {
                LogWork::Append(append) => {
                    number = Some(append.number);
                    sends.extend(append.send_after);
                }
                LogWork::Truncate(mark) => self.fact(&Fact::Truncated {
                    member: id,
                    index: mark.index,
                })?,
            }
        }
        if let Some(number) = number {
            self.invariants
                .observe(&Fact::Synced { member: id, number })?;
            self.input(id, Input::Persisted { number });
        }
        self.send(id, sends)?;
        self.begin_sync(id);
        Ok(())
    }
}
