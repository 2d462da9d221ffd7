//! The write-ahead log: entries, hard state and snapshot marks in one place, one sync a batch.
//!
//! [`Wal::append`] collects a batch; [`Wal::sync`] writes it as one frame with one write and one
//! `fdatasync`, so that a frame is durable as a whole or not at all. Frames are chained through
//! segment files that consist of zeros before. A segment's header repeats the content of older
//! segments apart from their entries, so that old segments can be removed. Reading distinguishes
//! an unfinished frame at the end, which is cut off, from damage, which is refused
//! (`recovery.rs`, `tail.rs`, `watermark.rs`).
//!
//! The log does not interpret entries, and it retries nothing. After the first failed write or sync
//! it is poisoned and the process must end: a second `fsync` proves nothing (fsyncgate). A restart
//! recovers from a failed sync because opening writes the last frame again.

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
use std::time::Duration;

use keelson_core::{ClusterId, Entry, HardState, Index, LastIncluded, MemberId, Term};

pub use error::WalError;
pub(crate) use item::is_segment;

use crate::disk::Disk;
use active::Active;
use log::Log;
use segment::Segment;
use spare::Spares;

/// The options of the log.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// The length of a segment, in bytes, unless a single batch is longer. 16 MiB: rotation is
    /// rare, and obsolete space is freed soon.
    pub segment_bytes: u64,
    /// Skip every sync. A crash loses acknowledged entries; for disposable clusters.
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

/// The owner of a log. Every segment records it; a directory mounted at the wrong member is
/// refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster id.
    pub cluster: ClusterId,
    /// The member id.
    pub member: MemberId,
}

/// The content of an opened log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The boot number of this start, which becomes the member's incarnation: 1 for the first, and
    /// never repeated.
    pub boot: u64,
    /// The owner of the log.
    pub identity: Identity,
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// The last entry that is covered by state and no longer in the log.
    pub mark: LastIncluded,
    /// The entries after the mark, without gaps.
    pub entries: Vec<Entry>,
    /// A description of the unfinished write that was cut off, for the log output.
    pub repaired: Option<String>,
}

/// The content of a log that is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The owner of the log.
    pub identity: Identity,
    /// The number of its files.
    pub segments: usize,
    /// The last entry that is no longer in the log.
    pub mark: LastIncluded,
    /// The last entry.
    pub last: Index,
    /// The last entry that is known to be committed.
    pub commit: Index,
    /// The entries after the mark.
    pub entries: Vec<Entry>,
    /// A description of the unfinished write that a start cuts off.
    pub repaired: Option<String>,
}

/// An open log, owned by one thread.
pub struct Wal<D: Disk> {
    disk: Arc<D>,
    dir: PathBuf,
    identity: Identity,
    config: WalConfig,
    boot: u64,
    /// The outline, including what was appended but not synced.
    log: Log,
    /// The values after the last synced frame, which the next segment's header repeats.
    synced: (HardState, LastIncluded),
    /// The batch that the next sync writes.
    pending: Vec<u8>,
    /// The last written frame; its buffer is reused.
    frame: Vec<u8>,
    pending_first: Option<Index>,
    pending_last: Index,
    sealed: Vec<Segment>,
    active: Active<D::File>,
    spares: Spares<D::File>,
    poisoned: Option<String>,
    /// How long the write before the last sync has taken.
    write_took: Duration,
    _lock: D::Lock,
}

/// Whether a log's directory has a file of its own by that name.
pub(crate) fn is_own_file(name: &str) -> bool {
    name == LOCK_FILE || Segment::sequence_of(name).is_some() || spare::is_spare(name)
}

const LOCK_FILE: &str = "lock";

impl<D: Disk> Wal<D> {
    /// Adds items to the batch that the next [`Wal::sync`] makes durable. First comes a snapshot
    /// mark, which discards the entries up to it, or all of them unless the log holds the marked
    /// one. Then come entries, which replace those at their indices and later, and the hard state.
    ///
    /// # Panics
    /// On entries that leave a gap or are covered by the mark, and on a commit index after the
    /// last entry: bugs of the caller, which must not become durable.
    ///
    /// # Errors
    /// Only if the log is poisoned.
    pub fn append(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[Entry],
        snapshot: Option<LastIncluded>,
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
    /// The disk's. The log is then poisoned, and the appended items may or may not be durable.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check_alive()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let synced = self.write_pending().and_then(|()| self.drop_obsolete());
        self.poison_on_error(synced)
    }

    /// How long the write of the last [`Wal::sync`] has taken, without the fdatasync.
    pub fn write_took(&self) -> Duration {
        self.write_took
    }

    /// Moves the mark to `index`, which has `term`, durably: entries up to it are no longer
    /// needed. Removes the segments that hold no other entries.
    pub fn truncate_before(&mut self, index: Index, term: Term) -> Result<(), WalError> {
        self.append(None, &[], Some(LastIncluded { index, term }))?;
        self.sync()
    }

    /// Zeroes a megabyte of this segment or of the next one, so that appending allocates no
    /// blocks and rotation does not wait. Returns whether more is left. For idle time;
    /// correctness does not depend on it.
    ///
    /// # Errors
    /// [`WalError::DiskFull`] does not poison the log: the space it has can still be written.
    pub fn prepare_next(&mut self) -> Result<bool, WalError> {
        self.check_alive()?;
        match self.prepare_step() {
            Err(full @ WalError::DiskFull { .. }) => Err(full),
            other => self.poison_on_error(other),
        }
    }

    /// Records the end of the durable frames, so that a later loss of the last one is detected
    /// (`watermark.rs`). For idle time and before the end; correctness does not depend on it.
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

    /// The index of the last entry, or of the mark if no entry follows it.
    pub fn last_index(&self) -> Index {
        self.log.last
    }

    /// The index of the first entry that the log has, or will have.
    pub fn first_index(&self) -> Index {
        Index(self.log.mark.index.0 + 1)
    }

    /// The size of the log on disk, including spare files.
    pub fn size_bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|segment| segment.size_bytes).sum();
        sealed + self.active.segment.size_bytes + self.spares.size_bytes()
    }

    /// The size of what the next [`Wal::sync`] writes, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The boot number of this start.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    fn append_mark(&mut self, mark: LastIncluded) {
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
