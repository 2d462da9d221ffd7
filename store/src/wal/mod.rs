//! The write-ahead log: entries, hard state and snapshot marks in one place, one sync a turn.
//!
//! [`Wal::append`] gathers, [`Wal::sync`] writes what was gathered as one frame with one write and
//! one `fdatasync`: a frame is there whole or not at all. Frames chain through segment files that
//! hold nothing but zeros before; a segment's header repeats all that older segments said but for
//! their entries, so old segments can go. Reading back tells an unfinished frame at the end, which
//! is cut, from damage, which is refused (`recovery.rs`, `tail.rs`, `watermark.rs`).
//!
//! Nothing here knows what entries mean, and nothing is retried: after the first failed write or
//! sync the log is poisoned and the process must end (fsyncgate: a second `fsync` proves nothing).
//! A failed sync is survivable by a restart because opening writes the last frame once more.

mod active;
mod error;
mod frame;
mod frame_v1;
mod item;
mod log;
mod opening;
mod recovery;
mod segment;
mod spare;
mod tail;
mod watermark;
mod window;
mod writing;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use keelson_core::{ClusterId, Entry, HardState, Index, MemberId, SnapshotMark, Term};

pub use error::WalError;
pub(crate) use item::is_segment;

use crate::disk::Disk;
use active::Active;
use log::Log;
use segment::Segment;
use spare::Spares;

/// How the log uses its disk.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Segments are this long, unless a single batch is longer. 16 MiB: long enough to make
    /// rotation rare, short enough to give space back.
    pub segment_bytes: u64,
    /// Never sync. Loses acknowledged entries when the machine stops; for throw-away clusters.
    pub unsafe_no_fsync: bool,
}

impl Default for WalConfig {
    fn default() -> WalConfig {
        WalConfig {
            segment_bytes: 16 << 20,
            unsafe_no_fsync: false,
        }
    }
}

/// Whose log it is. Every segment says so; a directory mounted at the wrong member is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

/// What an opened log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which life of the member this is: 1 for the first, never the same twice.
    pub boot: u64,
    /// Whose log it is.
    pub identity: Identity,
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// What the log no longer holds because state does.
    pub mark: SnapshotMark,
    /// The entries behind the mark, without gaps.
    pub entries: Vec<Entry>,
    /// What unfinished write was cut, to be logged.
    pub repaired: Option<String>,
}

/// An open log. One thread owns it.
pub struct Wal<D: Disk> {
    disk: Arc<D>,
    dir: PathBuf,
    identity: Identity,
    config: WalConfig,
    boot: u64,
    /// The outline with what was appended.
    log: Log,
    /// What the last synced frame left standing: the next segment's header says it.
    synced: (HardState, SnapshotMark),
    /// The batch being gathered.
    pending: Vec<u8>,
    /// The frame that was written last: its memory is used again.
    frame: Vec<u8>,
    pending_first: Option<Index>,
    pending_last: Index,
    sealed: Vec<Segment>,
    active: Active<D::File>,
    spares: Spares<D::File>,
    poisoned: Option<String>,
    _lock: D::Lock,
}

/// Whether a log's directory has a file of its own by that name.
pub(crate) fn is_own_file(name: &str) -> bool {
    name == LOCK_FILE || Segment::sequence_of(name).is_some() || spare::is_spare(name)
}

const LOCK_FILE: &str = "lock";

impl<D: Disk> Wal<D> {
    /// Gathers what the next [`Wal::sync`] is to make durable. In this order: a snapshot mark, which
    /// discards the entries up to it, and all of them unless the log holds the marked one; entries,
    /// which replace what stands at their indices and behind; the hard state.
    ///
    /// # Panics
    /// On entries that leave a gap or reach behind the mark, and on a commit index behind the end:
    /// bugs of the caller's, which the log must not make durable.
    ///
    /// # Errors
    /// Only if the log is poisoned.
    pub fn append(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[Entry],
        snapshot: Option<SnapshotMark>,
    ) -> Result<(), WalError> {
        self.check_alive()?;
        if let Some(mark) = snapshot.filter(|mark| self.log.mark.index < mark.index) {
            self.append_mark(mark);
        }
        for entry in entries {
            self.append_entry(entry);
        }
        if let Some(state) = hard_state {
            let last = self.log.last;
            assert!(
                state.commit <= last,
                "commit {} behind the end {last}",
                state.commit
            );
            item::put_hard_state(&mut self.pending, &state);
            self.log.hard_state = state;
        }
        Ok(())
    }

    /// Makes everything appended so far durable: one write, one `fdatasync`.
    ///
    /// # Errors
    /// The disk's; the log is poisoned then, and what was appended may or may not be there.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check_alive()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let synced = self.write_pending().and_then(|()| self.drop_obsolete());
        self.poison_on_error(synced)
    }

    /// Entries up to `index`, which is of `term`, are no longer needed: moves the mark there,
    /// durably, and gives up the segments that hold nothing else.
    pub fn truncate_before(&mut self, index: Index, term: Term) -> Result<(), WalError> {
        self.append(None, &[], Some(SnapshotMark { index, term }))?;
        self.sync()
    }

    /// A piece of work to be done ahead of time, by a caller that is idle: zeroes a megabyte of
    /// this segment or of the next, so that appending allocates no blocks and rotation does not
    /// wait. True while more is left. Not needed for correctness.
    ///
    /// # Errors
    /// [`WalError::DiskFull`] does not poison the log: what it has it can still write.
    pub fn prepare_next(&mut self) -> Result<bool, WalError> {
        self.check_alive()?;
        match self.prepare_step() {
            Err(full @ WalError::DiskFull { .. }) => Err(full),
            other => self.poison_on_error(other),
        }
    }

    /// Keeps beside the frames how far they are durable, so that the last of them is missed if it
    /// decays (`watermark.rs`). For a caller that has been idle for some time, or ends. Not needed for
    /// correctness.
    ///
    /// # Errors
    /// As [`Wal::prepare_next`].
    pub fn note_end(&mut self) -> Result<(), WalError> {
        self.check_alive()?;
        match self.active.write_watermark(self.config, false) {
            Err(full @ WalError::DiskFull { .. }) => Err(full),
            other => self.poison_on_error(other),
        }
    }

    /// The index of the last entry, or of the mark when there is none behind it.
    pub fn last_index(&self) -> Index {
        self.log.last
    }

    /// The index of the first entry the log has, or will have.
    pub fn first_index(&self) -> Index {
        Index(self.log.mark.index.0 + 1)
    }

    /// What the log takes on disk, spare files included.
    pub fn size_bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|segment| segment.size_bytes).sum();
        sealed + self.active.segment.size_bytes + self.spares.size_bytes()
    }

    /// The number of this life of the member.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    fn append_mark(&mut self, mark: SnapshotMark) {
        let kept = self.log.holds(mark);
        item::put_mark(&mut self.pending, mark, kept);
        self.log.set_mark(mark, kept);
        if !kept {
            self.replaced_from(Index(0));
        }
    }

    fn append_entry(&mut self, entry: &Entry) {
        let (index, last) = (entry.index, self.log.last);
        assert!(
            self.log.admits(index),
            "entry {index} cannot follow entry {last}"
        );
        if index <= last {
            self.replaced_from(index);
        }
        item::put_entry(&mut self.pending, entry);
        self.log.push(index, entry.term);
        self.pending_first = Some(self.pending_first.map_or(index, |first| first.min(index)));
        self.pending_last = index;
    }

    fn replaced_from(&mut self, index: Index) {
        for segment in &mut self.sealed {
            segment.replaced_from(index);
        }
        self.active.segment.replaced_from(index);
        self.pending_last = self.pending_last.min(Index(index.0.saturating_sub(1)));
    }

    fn check_alive(&self) -> Result<(), WalError> {
        match &self.poisoned {
            Some(error) => Err(WalError::Poisoned(error.clone())),
            None => Ok(()),
        }
    }

    fn poison_on_error<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(error) = &result {
            self.poisoned = Some(error.to_string());
        }
        result
    }
}
