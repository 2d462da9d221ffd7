//! The log thread: everything that waits becomes durable with one fdatasync.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use keelson_core::SnapshotMark;
use keelson_core::node::{Append, Input};

use super::driver::Event;
use super::fatal::Fatal;
use super::turns::Turns;
use crate::disk::RealDisk;
use crate::peer::Outbox;
use crate::wal::{Wal, WalError};

/// What the log thread is asked to do, in order.
pub(crate) enum LogJob {
    /// Make it durable, say so, and then send what waited for it.
    Append(Append),
    /// Entries up to this one are no longer needed.
    Truncate(SnapshotMark),
}

/// Appends that share an fdatasync. More only delays the first of them.
const BATCH_MAX: usize = 256;
/// What their entries weigh together, beyond the first append, in bytes: the log encodes a batch as a
/// whole.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// With nothing to do for this long, the next segment is made ready.
const IDLE: Duration = Duration::from_millis(20);
/// And after this long the end of the log is kept: one more fdatasync.
const AT_REST: Duration = Duration::from_secs(1);

/// What the log thread does next if no job comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Prepare,
    NoteEnd,
    Nothing,
}

impl Rest {
    fn after(self) -> Duration {
        match self {
            Rest::Prepare => IDLE,
            Rest::NoteEnd => AT_REST,
            Rest::Nothing => Duration::MAX,
        }
    }
}

pub(crate) struct LogWriter {
    pub(crate) wal: Wal<RealDisk>,
    pub(crate) jobs: Receiver<LogJob>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) outbox: Outbox,
    pub(crate) fatal: Fatal,
    pub(crate) syncs: Arc<crate::metrics::Histogram>,
}

impl LogWriter {
    /// Runs until the driver hangs up.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut rest = Rest::Prepare;
        loop {
            let next = self.jobs.recv_timeout(rest.after());
            if self.fatal.is_raised() {
                return;
            }
            match next {
                Ok(job) => batch.push(job),
                Err(RecvTimeoutError::Timeout) => {
                    match self.rest(rest) {
                        Ok(next) => rest = next,
                        Err(error) => {
                            return self.fatal.raise("preparing the next log segment", &error);
                        }
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.rest(Rest::NoteEnd) {
                        tracing::warn!(%error, "the end of the log was not noted");
                    }
                    return;
                }
            }
            rest = Rest::Prepare;
            gather(&mut batch, &self.jobs);
            if let Err(error) = self.write(&mut batch) {
                return self.fatal.raise("writing the log", &error);
            }
        }
    }

    /// Uses a pause, and tells what to do if it goes on.
    fn rest(&mut self, rest: Rest) -> Result<Rest, WalError> {
        let done = match rest {
            Rest::Prepare => self.wal.prepare_next(),
            Rest::NoteEnd => self.wal.note_end().map(|()| false),
            Rest::Nothing => Ok(false),
        };
        match (rest, done) {
            (Rest::Prepare, Ok(true)) => Ok(Rest::Prepare),
            (Rest::Prepare, Ok(false)) => Ok(Rest::NoteEnd),
            (Rest::NoteEnd | Rest::Nothing, Ok(_)) => Ok(Rest::Nothing),
            (_, Err(full @ WalError::DiskFull { .. })) => {
                // What the log has it can still write.
                tracing::warn!(error = %full, "no room for the next log segment");
                Ok(match rest {
                    Rest::Prepare => Rest::NoteEnd,
                    _ => Rest::Nothing,
                })
            }
            (_, Err(error)) => Err(error),
        }
    }

    fn write(&mut self, batch: &mut Vec<LogJob>) -> Result<(), WalError> {
        let mut appends = Vec::with_capacity(batch.len());
        let mut truncate = None;
        let mut must_sync = false;
        for job in batch.drain(..) {
            match job {
                LogJob::Append(append) => {
                    if !append.order_only {
                        must_sync = true;
                        let mark = append.snapshot.as_ref().map(|(mark, _)| *mark);
                        self.wal.append(append.hard_state, &append.entries, mark)?;
                    }
                    appends.push(append);
                }
                LogJob::Truncate(mark) => truncate = Some(mark),
            }
        }
        if must_sync {
            let began = std::time::Instant::now();
            self.wal.sync()?;
            self.syncs.observe(began.elapsed());
        }
        if self.fatal.is_raised() {
            return Ok(());
        }
        self.let_go(appends);
        if let Some(mark) = truncate {
            self.wal.truncate_before(mark.index, mark.term)?;
        }
        Ok(())
    }

    /// The driver hears of it before any peer can answer: raft-rs wants to know what is durable
    /// before it counts the votes that rest on it.
    fn let_go(&self, appends: Vec<Append>) {
        if let Some(last) = appends.last() {
            let _ = self.turns.leave(Event::from(Input::Persisted {
                number: last.number,
            }));
        }
        for append in appends {
            for (to, message) in append.send_after {
                // What cannot be sent is lost, which Raft expects.
                let _ = self.outbox.send(to, message);
            }
        }
        self.turns.drive_if_calm();
    }
}

/// Adds what waits to the batch.
fn gather(batch: &mut Vec<LogJob>, jobs: &Receiver<LogJob>) {
    let mut bytes: usize = batch.iter().map(weight).sum();
    while batch.len() < BATCH_MAX
        && bytes < BATCH_BYTES_MAX
        && let Ok(job) = jobs.try_recv()
    {
        bytes += weight(&job);
        batch.push(job);
    }
}

fn weight(job: &LogJob) -> usize {
    match job {
        LogJob::Append(append) => {
            let entries = append.entries.iter();
            entries
                .map(|entry| entry.data.len() + entry.context.len())
                .sum()
        }
        LogJob::Truncate(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use crossbeam::channel::unbounded;
    use keelson_core::{Entry, EntryKind, Index, Term};

    use super::*;

    static LARGE: [u8; 1 << 20] = [0; 1 << 20];

    fn append() -> LogJob {
        let entry = Entry {
            index: Index(1),
            term: Term(1),
            kind: EntryKind::Command,
            data: Bytes::from_static(&LARGE),
            context: Bytes::new(),
        };
        LogJob::Append(Append {
            entries: vec![entry],
            ..Append::default()
        })
    }

    /// b846fd5 encoded up to 256 appends at once, whatever they weighed.
    #[test]
    fn a_batch_of_the_log_is_bounded_in_bytes() {
        let (jobs, waiting) = unbounded();
        for _ in 0..20 {
            jobs.send(append()).expect("the receiver is there");
        }
        let mut batch = vec![append()];
        gather(&mut batch, &waiting);
        assert_eq!((batch.len(), waiting.len()), (4, 17));
    }
}
