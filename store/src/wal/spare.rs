//! The spare file that becomes the next segment, created before it is needed.
//!
//! It is always a new file, never a reused segment: frames are written over zeros, which
//! distinguishes an unfinished one from a damaged one (`tail.rs`). While the log is idle, zeros
//! are written ahead, so that a sync finds its blocks allocated.

use std::path::{Path, PathBuf};

use super::WalConfig;
use super::active::{ZERO_STEP_BYTES, write_zeros};
use super::error::WalError;
use crate::disk::{self, Disk, DiskFile};

const PREFIX: &str = "spare-";

/// A file that will become a segment.
pub(super) struct Spare<F> {
    pub(super) path: PathBuf,
    pub(super) file: F,
    /// The end of the written zeros.
    pub(super) zeroed_bytes: u64,
}

/// The spare file of a log, if there is one.
pub(super) struct Spares<F> {
    next: Option<Spare<F>>,
    next_number: u64,
}

impl<F: DiskFile> Spares<F> {
    /// Removes the spares of an earlier process, whose content may not be zeros.
    pub(super) fn begin<D: Disk<File = F>>(
        disk: &D,
        dir: &Path,
        names: &[String],
    ) -> Result<Spares<F>, WalError> {
        let mut next_number = 0;
        for name in names {
            let Some(number) = number_of(name) else {
                continue;
            };
            next_number = next_number.max(number.saturating_add(1));
            let path = dir.join(name);
            disk.remove(&path).map_err(WalError::io("remove", &path))?;
        }
        let next = None;
        Ok(Spares { next, next_number })
    }

    /// The size of the spare on disk, in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.next.as_ref().map_or(0, |spare| spare.zeroed_bytes)
    }

    /// Returns the spare, or creates one, which waits for a free descriptor if there is none.
    pub(super) fn take<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        dir: &Path,
    ) -> Result<Spare<F>, WalError> {
        match self.next.take() {
            Some(spare) => Ok(spare),
            None => {
                let path = self.new_path(dir);
                let file = disk::wait_for_descriptors(&path, || disk.create(&path));
                let file = file.map_err(WalError::io("create", &path))?;
                let zeroed_bytes = 0;
                Ok(Spare {
                    path,
                    file,
                    zeroed_bytes,
                })
            }
        }
    }

    /// Creates the spare if there is none. Without a free descriptor a later call tries again.
    pub(super) fn open_next<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        dir: &Path,
    ) -> Result<(), WalError> {
        if self.next.is_some() {
            return Ok(());
        }
        let path = self.new_path(dir);
        match disk.create(&path) {
            Ok(file) => {
                let zeroed_bytes = 0;
                self.next = Some(Spare {
                    path,
                    file,
                    zeroed_bytes,
                });
                Ok(())
            }
            Err(error) if disk::is_out_of_descriptors(&error) => Ok(()),
            Err(error) => Err(WalError::io("create", &path)(error)),
        }
    }

    /// Writes one step of zeros into the spare. Returns whether more is left.
    pub(super) fn prepare(&mut self, config: WalConfig) -> Result<bool, WalError> {
        let full = config.segment_bytes;
        let Some(spare) = self.next.as_mut().filter(|spare| spare.zeroed_bytes < full) else {
            return Ok(false);
        };
        let to = full.min(spare.zeroed_bytes + ZERO_STEP_BYTES);
        write_zeros(&spare.file, &spare.path, spare.zeroed_bytes, to)?;
        if !config.unsafe_no_fsync {
            let synced = spare.file.sync_data();
            synced.map_err(WalError::io("sync", &spare.path))?;
        }
        spare.zeroed_bytes = to;
        Ok(true)
    }

    /// A name that no spare has had.
    fn new_path(&mut self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("{PREFIX}{:016x}", self.next_number));
        self.next_number = self.next_number.wrapping_add(1);
        path
    }
}

/// Whether a file of that name is a spare.
pub(super) fn is_spare(name: &str) -> bool {
    number_of(name).is_some()
}

fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()
}
