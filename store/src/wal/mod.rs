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
mod recovery;
mod segment;
mod spare;
mod tail;
mod watermark;
mod window;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_core::{ClusterId, Entry, HardState, Index, MemberId, SnapshotMark, Term};

pub use error::WalError;
pub(crate) use item::is_segment;

use crate::disk::{self, Disk, DiskFile};
use active::{Active, begin_segment, first_offset};
use item::SegmentHeader;
use log::Log;
use recovery::{End, Recovery};
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

/// A larger buffer is given back after the batch that needed it.
const PENDING_BYTES: usize = 1 << 20;
const LOCK_FILE: &str = "lock";

impl<D: Disk> Wal<D> {
    /// Opens the log in `dir`, or begins one. Raises the boot number durably before it returns.
    ///
    /// # Errors
    /// Damage, somebody else's log, a directory in use, or the disk: see [`WalError`].
    pub fn create_or_open(
        disk: Arc<D>,
        dir: &Path,
        identity: Identity,
        config: WalConfig,
    ) -> Result<(Wal<D>, Recovered), WalError> {
        disk::create_dir_durably(&*disk, dir).map_err(WalError::io("create", dir))?;
        let lock = disk
            .lock(&dir.join(LOCK_FILE))
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::WouldBlock => WalError::Locked { dir: dir.into() },
                _ => WalError::io("lock", dir)(error),
            })?;
        // What an earlier process renamed and did not live to sync must not be built upon.
        disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
        let names = disk.list(dir).map_err(WalError::io("list", dir))?;
        let paths = segments_in_order(dir, &names)?;
        let recovery = match paths.is_empty() {
            true => None,
            false => Some(recovery::recover(&*disk, &paths, identity)?),
        };
        check_last(&*disk, dir, &paths)?;
        let mut spares = Spares::begin(&*disk, dir, &names)?;
        let recovery = match recovery {
            Some(recovery) => recovery,
            None => begin(&*disk, dir, identity, config, &mut spares)?,
        };
        Wal::continue_from(recovery, disk, dir, identity, config, spares, lock)
    }

    fn continue_from(
        recovery: Recovery<D::File>,
        disk: Arc<D>,
        dir: &Path,
        identity: Identity,
        config: WalConfig,
        spares: Spares<D::File>,
        lock: D::Lock,
    ) -> Result<(Wal<D>, Recovered), WalError> {
        let boot = recovery.boot + 1;
        let recovered = Recovered {
            boot,
            identity,
            hard_state: recovery.log.hard_state,
            mark: recovery.log.mark,
            entries: recovery.entries,
            repaired: recovery.repaired,
        };
        let mut wal = Wal {
            boot,
            synced: (recovered.hard_state, recovered.mark),
            pending: Vec::new(),
            frame: Vec::new(),
            pending_first: None,
            pending_last: Index(0),
            sealed: recovery.sealed,
            active: Active {
                seed: frame::seed(identity, recovery.active.sequence),
                zeroed_bytes: recovery.end.offset,
                watermark: recovery.watermark,
                noted: None,
                segment: recovery.active,
                file: recovery.file,
                end: recovery.end,
            },
            log: recovery.log,
            disk,
            dir: dir.to_path_buf(),
            identity,
            config,
            spares,
            poisoned: None,
            _lock: lock,
        };
        wal.rewrite_last_frame()?;
        if !recovery.goes_on {
            wal.rotate()?;
        }
        item::put_boot(&mut wal.pending, boot);
        wal.sync()?;
        Ok((wal, recovered))
    }

    /// Whose log is in `dir`; `None` when there is none. For a member that must learn its own id.
    pub fn identity(disk: &D, dir: &Path) -> Result<Option<Identity>, WalError> {
        if !disk.exists(dir).map_err(WalError::io("look at", dir))? {
            return Ok(None);
        }
        let names = disk.list(dir).map_err(WalError::io("list", dir))?;
        let paths = segments_in_order(dir, &names)?;
        let last = paths.last();
        last.map(|(sequence, path)| recovery::identity_of(disk, path, *sequence))
            .transpose()
    }

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

    fn write_pending(&mut self) -> Result<(), WalError> {
        let size = frame::size_bytes(self.active.end.offset, self.pending.len());
        if self.active.frames_end() < self.active.end.offset + size {
            self.rotate()?;
        }
        let active = &mut self.active;
        let End { offset, crc, .. } = active.end;
        let crc = frame::seal(&mut self.frame, &self.pending, active.seed, offset, crc);
        let end = offset + self.frame.len() as u64;
        active.write(offset, &self.frame)?;
        active.zero_ahead(end)?;
        active.sync(self.config)?;
        active.end = End {
            last_frame: offset,
            offset: end,
            crc,
        };
        active.segment.last = active.segment.last.max(self.pending_last);
        self.pending_first = None;
        self.pending_last = Index(0);
        for buffer in [&mut self.pending, &mut self.frame] {
            buffer.clear();
            buffer.shrink_to(PENDING_BYTES);
        }
        self.synced = (self.log.hard_state, self.log.mark);
        Ok(())
    }

    /// Begins the next segment, with room for what is pending.
    fn rotate(&mut self) -> Result<(), WalError> {
        let sequence = self.active.segment.sequence + 1;
        let header = SegmentHeader {
            identity: self.identity,
            version: item::VERSION,
            sequence,
            boot: self.boot,
            hard_state: self.synced.0,
            mark: self.synced.1,
            made_bytes: made_bytes(self.config, self.pending.len()),
        };
        let first = self.pending_first.unwrap_or(Index(self.log.last.0 + 1));
        let path = Segment::path(&self.dir, sequence, first);
        let prev = self.active.end.crc;
        let spare = self.spares.take(&*self.disk, &self.dir)?;
        let active = begin_segment(&*self.disk, &path, header, prev, spare)?;
        let mut sealed = std::mem::replace(&mut self.active, active);
        sealed.write_watermark(self.config, true)?;
        self.sealed.push(sealed.segment);
        match self.spares.open_next(&*self.disk, &self.dir) {
            // It is not needed yet.
            Err(WalError::DiskFull { .. }) => Ok(()),
            other => other,
        }
    }

    /// Gives up segments whose entries are all covered by the mark. Oldest first, each durably, so
    /// that what is left never has a gap.
    fn drop_obsolete(&mut self) -> Result<(), WalError> {
        let mark = self.synced.1.index;
        while self
            .sealed
            .first()
            .is_some_and(|oldest| oldest.last <= mark)
        {
            let oldest = self.sealed.remove(0);
            let path = &oldest.path;
            self.disk
                .remove(path)
                .map_err(WalError::io("remove", path))?;
            let synced = self.disk.sync_dir(&self.dir);
            synced.map_err(WalError::io("sync", &self.dir))?;
        }
        Ok(())
    }

    fn prepare_step(&mut self) -> Result<bool, WalError> {
        let from = self.active.zeroed_bytes;
        if from < self.active.frames_end() {
            self.active.zero_ahead(from)?;
            self.active.sync(self.config)?;
            return Ok(true);
        }
        self.spares.open_next(&*self.disk, &self.dir)?;
        self.spares.prepare(self.config)
    }

    /// The last frame may be in the page cache only: its sync failed, or its process was killed
    /// before it. Every frame before it was synced. So it is written again, and synced, before
    /// anything is built on it.
    fn rewrite_last_frame(&mut self) -> Result<(), WalError> {
        let End {
            last_frame, offset, ..
        } = self.active.end;
        let length = usize::try_from(offset - last_frame).expect("a frame fits into memory");
        let mut bytes = vec![0; length];
        let path = &self.active.segment.path;
        let read = self.active.file.read_at(last_frame, &mut bytes);
        let read = read.map_err(WalError::io("read", path))?;
        // In format 1 the padding behind the very last frame may have been cut with the file.
        bytes.truncate(read);
        self.active.write(last_frame, &bytes)?;
        self.active.sync(self.config)
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

/// The segments among `names`, oldest first; an error when one is missing.
fn segments_in_order(dir: &Path, names: &[String]) -> Result<Vec<(u64, PathBuf)>, WalError> {
    let segment = |name: &String| Some((Segment::sequence_of(name)?, dir.join(name)));
    let mut paths: Vec<(u64, PathBuf)> = names.iter().filter_map(segment).collect();
    paths.sort();
    for pair in paths.windows(2) {
        let [(before, _), (after, path)] = pair else {
            continue;
        };
        if before == after {
            let cause = "there are two segments of this sequence";
            return Err(WalError::damaged(path, 0, cause));
        }
        if before + 1 != *after {
            return Err(WalError::MissingSegment {
                dir: dir.to_path_buf(),
                sequence: before + 1,
            });
        }
    }
    Ok(paths)
}

/// The last segment was locked, so no other process writes to it; the one that has gone on in a
/// newer segment since the names were read has locked that.
fn check_last<D: Disk>(disk: &D, dir: &Path, paths: &[(u64, PathBuf)]) -> Result<(), WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let now = segments_in_order(dir, &names)?;
    match now.last() == paths.last() {
        true => Ok(()),
        false => Err(WalError::Locked { dir: dir.into() }),
    }
}

/// The length of a segment whose first frame has so much payload.
fn made_bytes(config: WalConfig, payload: usize) -> u64 {
    let first = first_offset(frame_v1::size_bytes(SegmentHeader::BYTES));
    let frames_end = first + frame::size_bytes(first, payload);
    config.segment_bytes.max(watermark::made_bytes(frames_end))
}

/// A log that has nothing yet.
fn begin<D: Disk>(
    disk: &D,
    dir: &Path,
    identity: Identity,
    config: WalConfig,
    spares: &mut Spares<D::File>,
) -> Result<Recovery<D::File>, WalError> {
    let header = SegmentHeader {
        identity,
        version: item::VERSION,
        sequence: 1,
        boot: 0,
        hard_state: HardState::default(),
        mark: SnapshotMark::default(),
        made_bytes: made_bytes(config, 0),
    };
    let path = Segment::path(dir, 1, Index(1));
    let spare = spares.take(disk, dir)?;
    let active = begin_segment(disk, &path, header, 0, spare)?;
    Ok(Recovery {
        log: Log::new(header.hard_state, header.mark),
        entries: Vec::new(),
        boot: header.boot,
        sealed: Vec::new(),
        active: active.segment,
        watermark: active.watermark,
        file: active.file,
        end: active.end,
        repaired: None,
        goes_on: true,
    })
}
