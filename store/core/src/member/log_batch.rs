//! Log writes: batches that share one sync, their effects, and the maintenance of an idle log.
//!
//! The types enforce the order. A [`LogBatch`] is gathered, [`LogBatch::write`] passes its records
//! to the log, and only [`Written::synced`] returns the effects that follow the sync. So no
//! acknowledgement or vote leaves before what it promises is durable.

use keelson_proto::peer::PeerMessage;

use crate::node::Append;
use crate::{Entry, HardState, LastIncluded, MemberId};

/// The maximum number of pieces of work per batch. A larger batch only delays its first one.
const BATCH_MAX: usize = 256;
/// The maximum bytes of entries per batch, beyond its first piece of work: the log encodes a batch
/// as a whole.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Work for the log. The order matters.
#[derive(Debug)]
pub enum LogWork {
    /// An append to make durable.
    Append(Append),
    /// Entries up to this one may be deleted.
    Truncate(LastIncluded),
}

impl LogWork {
    fn weight(&self) -> usize {
        match self {
            LogWork::Append(append) => {
                let entries = append.entries.iter();
                entries
                    .map(|entry| entry.data.len() + entry.context.len())
                    .sum()
            }
            LogWork::Truncate(_) => 0,
        }
    }
}

/// Work that shares one sync.
#[derive(Debug, Default)]
pub struct LogBatch {
    appends: Vec<Append>,
    truncate: Option<LastIncluded>,
    count: usize,
    bytes: usize,
}

/// One record for the log. If there is a mark, it replaces the log, before the entries.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// The new hard state.
    pub hard_state: Option<HardState>,
    /// If the first is at or below the log's end, it replaces the entries from there on.
    pub entries: &'a [Entry],
    /// The last entry of the snapshot with which the log restarts.
    pub mark: Option<LastIncluded>,
}

/// A batch whose records are in the log and not yet durable.
#[derive(Debug)]
pub struct Written {
    batch: LogBatch,
    must_sync: bool,
}

/// Effects that follow a batch's sync, in the order of the fields.
#[derive(Debug, Default)]
pub struct LogEffects {
    /// For `Input::Persisted`. It comes before the messages: the node counts this member's own vote
    /// only once it is durable, and answers may arrive at once.
    pub persisted: Option<u64>,
    /// Messages that promise durability.
    pub send: Vec<(MemberId, PeerMessage)>,
    /// Entries up to this one may be deleted. Last: the deletion costs another sync.
    pub truncate: Option<LastIncluded>,
}

impl LogBatch {
    /// Whether the batch can take more work.
    pub fn has_room(&self) -> bool {
        self.count < BATCH_MAX && self.bytes < BATCH_BYTES_MAX
    }

    /// Whether the batch has no work.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds work. A later truncation includes the earlier ones.
    pub fn push(&mut self, work: LogWork) {
        self.count += 1;
        self.bytes += work.weight();
        match work {
            LogWork::Append(append) => self.appends.push(append),
            LogWork::Truncate(mark) => self.truncate = Some(mark),
        }
    }

    /// Passes the records to the log, in order. Appends that only order messages have none.
    ///
    /// # Errors
    /// Those of `append`.
    pub fn write<E>(
        self,
        mut append: impl FnMut(LogRecord<'_>) -> Result<(), E>,
    ) -> Result<Written, E> {
        let mut must_sync = false;
        for work in self.appends.iter().filter(|append| !append.order_only) {
            must_sync = true;
            append(LogRecord {
                hard_state: work.hard_state,
                entries: &work.entries,
                mark: work.snapshot.as_ref().map(|(mark, _)| *mark),
            })?;
        }
        Ok(Written {
            batch: self,
            must_sync,
        })
    }
}

impl Written {
    /// Whether the log must be synced before the effects may be carried out.
    pub fn must_sync(&self) -> bool {
        self.must_sync
    }

    /// The appends of the batch.
    pub fn appends(&self) -> &[Append] {
        &self.batch.appends
    }

    /// The effects, to be called once the log is durable as far as it is written.
    pub fn synced(self) -> LogEffects {
        let LogBatch {
            appends, truncate, ..
        } = self.batch;
        LogEffects {
            persisted: appends.last().map(|append| append.number),
            send: appends
                .into_iter()
                .flat_map(|append| append.send_after)
                .collect(),
            truncate,
        }
    }
}

/// The idle time after which the next segment is prepared, in milliseconds.
const IDLE_MS: u64 = 20;
/// The idle time after which the durable end of the log is recorded, in milliseconds; it costs a
/// sync.
const AT_REST_MS: u64 = 1_000;

/// The next maintenance step of an idle log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogPause {
    /// Prepare a part of the next segment.
    #[default]
    Prepare,
    /// Record how far the frames are durable.
    NoteEnd,
    /// None.
    Rest,
}

/// The outcome of a maintenance step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseStep {
    /// More is left to prepare.
    More,
    /// The step is complete.
    Done,
    /// The disk is full. Prepared segments can still be written.
    DiskFull,
}

impl LogPause {
    /// The idle time before this step, in milliseconds; `None` if there is no further step.
    pub fn after_ms(self) -> Option<u64> {
        match self {
            LogPause::Prepare => Some(IDLE_MS),
            LogPause::NoteEnd => Some(AT_REST_MS),
            LogPause::Rest => None,
        }
    }

    /// The step that follows, if the log stays idle.
    #[must_use]
    pub fn next(self, step: PauseStep) -> LogPause {
        match (self, step) {
            (LogPause::Prepare, PauseStep::More) => LogPause::Prepare,
            (LogPause::Prepare, PauseStep::Done | PauseStep::DiskFull) => LogPause::NoteEnd,
            (LogPause::NoteEnd | LogPause::Rest, _) => LogPause::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{EntryKind, Index, Term};

    static LARGE: [u8; 1 << 20] = [0; 1 << 20];

    fn append(number: u64, index: u64) -> Append {
        let entry = Entry {
            index: Index(index),
            term: Term(1),
            kind: EntryKind::Command,
            data: Bytes::from_static(&LARGE),
            context: Bytes::new(),
        };
        Append {
            number,
            entries: vec![entry],
            send_after: vec![(MemberId(number), PeerMessage::default())],
            ..Append::default()
        }
    }

    fn order_only(number: u64) -> Append {
        Append {
            number,
            order_only: true,
            send_after: vec![(MemberId(number), PeerMessage::default())],
            ..Append::default()
        }
    }

    /// b846fd5 encoded up to 256 appends at once, regardless of their size.
    #[test]
    fn a_batch_of_the_log_is_bounded_in_bytes() {
        let mut batch = LogBatch::default();
        let mut taken = 0;
        while batch.has_room() {
            taken += 1;
            batch.push(LogWork::Append(append(taken, taken)));
        }
        assert_eq!(taken, 4);
        let mut batch = LogBatch::default();
        let mut taken = 0;
        while batch.has_room() {
            taken += 1;
            batch.push(LogWork::Append(order_only(taken)));
        }
        assert_eq!(taken, 256);
    }

    #[test]
    fn what_promises_durability_follows_the_sync_in_order() {
        let mark = LastIncluded {
            index: Index(1),
            term: Term(1),
        };
        let mut batch = LogBatch::default();
        batch.push(LogWork::Append(append(1, 7)));
        batch.push(LogWork::Truncate(mark));
        batch.push(LogWork::Append(order_only(2)));
        batch.push(LogWork::Append(append(3, 8)));
        let mut records = Vec::new();
        let written = batch.write(|record| {
            records.push(record.entries[0].index.0);
            Ok::<_, ()>(())
        });
        let written = written.expect("the log takes them");
        assert_eq!(records, [7, 8]);
        assert!(written.must_sync());
        let effects = written.synced();
        assert_eq!(effects.persisted, Some(3));
        let to: Vec<_> = effects.send.iter().map(|(to, _)| to.0).collect();
        assert_eq!(to, [1, 2, 3]);
        assert_eq!(effects.truncate, Some(mark));
    }

    #[test]
    fn messages_that_only_wait_for_earlier_appends_cost_no_sync() {
        let mut batch = LogBatch::default();
        batch.push(LogWork::Append(order_only(4)));
        let written = batch.write(|_| Err("a record")).expect("there is none");
        assert!(!written.must_sync());
        assert_eq!(written.synced().persisted, Some(4));
    }

    #[test]
    fn a_log_without_work_prepares_a_segment_then_notes_its_end_once() {
        let mut pause = LogPause::default();
        let mut waits = Vec::new();
        let mut steps = [PauseStep::More, PauseStep::Done, PauseStep::Done].into_iter();
        while let Some(after_ms) = pause.after_ms() {
            waits.push(after_ms);
            pause = pause.next(steps.next().expect("three steps"));
        }
        assert_eq!(waits, [IDLE_MS, IDLE_MS, AT_REST_MS]);
        // A full disk does not repeat the step.
        let pause = LogPause::Prepare.next(PauseStep::DiskFull);
        assert_eq!(pause, LogPause::NoteEnd);
        assert_eq!(pause.next(PauseStep::DiskFull), LogPause::Rest);
    }
}
