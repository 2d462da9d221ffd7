//! Opens or creates the log, and increments its boot number.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keelson_core::{HardState, Index, LastIncluded};

use super::active::{Active, begin_segment, lock_error};
use super::item::{self, SegmentHeader};
use super::log::Log;
use super::recovery::{self, FramesEnd, ReplayedLog};
use super::segment::Segment;
use super::spare::Spares;
use super::writing::made_bytes;
use super::{Examined, Identity, LOCK_FILE, Recovered, Wal, WalConfig, WalError, frame};
use crate::disk::{self, Disk, DiskFile};

impl<D: Disk> Wal<D> {
    /// Opens or creates the log in `dir`. The incremented boot number is durable before it
    /// returns.
    ///
    /// # Errors
    /// Damage, another member's log, a directory in use, or the disk: see [`WalError`].
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
        // A rename of an earlier process may be visible but not durable yet.
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
        recovery: ReplayedLog<D::File>,
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
            write_took: Duration::ZERO,
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

    /// The owner of the log in `dir`; `None` without a log. For a member that derives its id from
    /// it.
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

    /// Locks the log in `dir`, so that no member opens it; `None` without a file to lock.
    ///
    /// # Errors
    /// `Locked` by another process, and the system's.
    pub fn lock(disk: &D, dir: &Path) -> Result<Option<D::Lock>, WalError> {
        match disk.lock(&dir.join(LOCK_FILE)) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(lock_error(&dir.join(LOCK_FILE), error)),
        }
    }

    /// Reads the log in `dir`, which the caller has locked, and changes nothing; `None` without a
    /// log.
    ///
    /// # Errors
    /// As [`Wal::create_or_open`].
    pub fn examine(disk: &D, dir: &Path) -> Result<Option<Examined>, WalError> {
        let names = disk.list(dir).map_err(WalError::io("list", dir))?;
        let paths = segments_in_order(dir, &names)?;
        let Some(identity) = Wal::identity(disk, dir)? else {
            return Ok(None);
        };
        let found = recovery::recover(disk, &paths, identity)?;
        Ok(Some(Examined {
            identity,
            segments: paths.len(),
            mark: found.log.mark,
            last: found.log.last,
            commit: found.log.hard_state.commit,
            entries: found.entries,
            repaired: found.repaired,
        }))
    }

    /// Writes and syncs the last frame again before anything depends on it. It may be in the page
    /// cache only: its sync failed, or its process was killed before the sync. Every earlier
    /// frame was synced.
    fn rewrite_last_frame(&mut self) -> Result<(), WalError> {
        let FramesEnd {
            last_frame, offset, ..
        } = self.active.end;
        let length = usize::try_from(offset - last_frame).expect("a frame fits into memory");
        let mut bytes = vec![0; length];
        let path = &self.active.segment.path;
        let read = self.active.file.read_at(last_frame, &mut bytes);
        let read = read.map_err(WalError::io("read", path))?;
        // In format 1 the padding after the very last frame may be missing from the file.
        bytes.truncate(read);
        self.active.write(last_frame, &bytes)?;
        self.active.sync(self.config)
    }
}

/// The segments among `names`, oldest first; an error if one is missing.
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

/// Checks that no newer segment exists. The last segment was locked, so no other process writes
/// to it; a process that has continued in a newer one since the names were read holds that one's
/// lock.
fn check_last<D: Disk>(disk: &D, dir: &Path, paths: &[(u64, PathBuf)]) -> Result<(), WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let now = segments_in_order(dir, &names)?;
    match now.last() == paths.last() {
        true => Ok(()),
        false => Err(WalError::Locked { dir: dir.into() }),
    }
}

/// Creates an empty log.
fn begin<D: Disk>(
    disk: &D,
    dir: &Path,
    identity: Identity,
    config: WalConfig,
    spares: &mut Spares<D::File>,
) -> Result<ReplayedLog<D::File>, WalError> {
    let header = SegmentHeader {
        identity,
        version: item::VERSION,
        sequence: 1,
        boot: 0,
        hard_state: HardState::default(),
        mark: LastIncluded::default(),
        made_bytes: made_bytes(config, 0),
    };
    let path = Segment::path(dir, 1, Index(1));
    let spare = spares.take(disk, dir)?;
    let active = begin_segment(disk, &path, header, 0, spare)?;
    Ok(ReplayedLog {
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
