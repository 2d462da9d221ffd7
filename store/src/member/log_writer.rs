//! The log writer's thread: carries out the decisions of the core's [`LogBatch`] and [`LogPause`].

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use keelson_core::member::{LogBatch, LogEffects, LogPause, LogWork, PauseStep};
use keelson_core::node::Input;

use super::fatal::Fatal;
use super::worker::{MemberExecutor, WorkerEvent};
use crate::disk::RealDisk;
use crate::metrics::MemberMetrics;
use crate::peer::Outbox;
use crate::wal::{Wal, WalError};

pub(crate) struct LogWriter {
    pub(crate) wal: Wal<RealDisk>,
    pub(crate) work: Receiver<LogWork>,
    pub(crate) executor: Arc<MemberExecutor>,
    pub(crate) outbox: Outbox,
    pub(crate) fatal: Fatal,
    pub(crate) metrics: Arc<MemberMetrics>,
}

impl LogWriter {
    /// Runs until all senders of work are dropped.
    pub(crate) fn run(mut self) {
        let mut pause = LogPause::default();
        loop {
            let patience = pause
                .after_ms()
                .map_or(Duration::MAX, Duration::from_millis);
            let next = self.work.recv_timeout(patience);
            if self.fatal.is_raised() {
                return;
            }
            match next {
                Ok(work) => {
                    pause = LogPause::default();
                    if let Err(error) = self.write(work) {
                        return self.fatal.raise("writing the log", &error);
                    }
                }
                Err(RecvTimeoutError::Timeout) => match self.pause(pause) {
                    Ok(step) => pause = pause.next(step),
                    Err(error) => {
                        return self.fatal.raise("preparing the next log segment", &error);
                    }
                },
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.pause(LogPause::NoteEnd) {
                        tracing::warn!(%error, "the log's watermark was not written");
                    }
                    return;
                }
            }
        }
    }

    /// Uses idle time for one step of maintenance.
    fn pause(&mut self, pause: LogPause) -> Result<PauseStep, WalError> {
        let done = match pause {
            LogPause::Prepare => self.wal.prepare_next(),
            LogPause::NoteEnd => self.wal.note_end().map(|()| false),
            LogPause::Rest => Ok(false),
        };
        match done {
            Ok(true) => Ok(PauseStep::More),
            Ok(false) => Ok(PauseStep::Done),
            Err(full @ WalError::DiskFull { .. }) => {
                tracing::warn!(error = %full, "no room for the next log segment");
                Ok(PauseStep::DiskFull)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes all waiting work with one fdatasync.
    fn write(&mut self, first: LogWork) -> Result<(), WalError> {
        let mut batch = LogBatch::default();
        batch.push(first);
        while batch.has_room()
            && let Ok(work) = self.work.try_recv()
        {
            batch.push(work);
        }
        let wal = &mut self.wal;
        let written =
            batch.write(|record| wal.append(record.hard_state, record.entries, record.mark))?;
        if written.must_sync() {
            let began = std::time::Instant::now();
            self.metrics.log_bytes.add(self.wal.pending_bytes() as u64);
            self.wal.sync()?;
            let (took, write) = (began.elapsed(), self.wal.write_took());
            self.metrics.log_writes.observe(write);
            self.metrics.syncs.observe(took.saturating_sub(write));
        }
        if self.fatal.is_raised() {
            return Ok(());
        }
        self.carry_out(written.synced())
    }

    /// Carries out the effects in the order of the fields of `LogEffects`.
    fn carry_out(&mut self, effects: LogEffects) -> Result<(), WalError> {
        if let Some(number) = effects.persisted {
            let _ = self
                .executor
                .enqueue(WorkerEvent::from(Input::Persisted { number }));
        }
        for (to, message) in effects.send {
            // Raft tolerates the loss of a message.
            let _ = self.outbox.send(to, message);
        }
        self.executor.drive_unless_busy();
        match effects.truncate {
            Some(mark) => self.wal.truncate_before(mark.index, mark.term),
            None => Ok(()),
        }
    }
}
