//! Segments by name, and the spare files they are made of.
//!
//! `<sequence>-<first index>.wal`, 16 hexadecimal digits each; sequences have no gaps. A spare is
//! `spare-<number>`: zeros, or a segment whose entries are no longer needed; either way its bytes
//! were written before, so that writing them again changes no metadata and a sync stays cheap.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use keelson_core::Index;

use super::error::WalError;
use crate::disk::{Disk, DiskFile};

/// A segment that is part of the log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
    /// The highest index in it that no later segment has replaced.
    pub(super) last: Index,
}

impl Segment {
    /// Where a segment belongs.
    pub(super) fn path(dir: &Path, sequence: u64, first: Index) -> PathBuf {
        dir.join(format!("{sequence:016x}-{:016x}.wal", first.0))
    }

    /// The sequence in a segment's file name.
    pub(super) fn sequence_of(name: &str) -> Option<u64> {
        let (sequence, first) = name.strip_suffix(".wal")?.split_once('-')?;
        if sequence.len() != 16 || first.len() != 16 {
            return None;
        }
        u64::from_str_radix(first, 16).ok()?;
        u64::from_str_radix(sequence, 16).ok()
    }

    /// Entries from `index` on have been replaced.
    pub(super) fn replaced_from(&mut self, index: Index) {
        self.last = self.last.min(Index(index.0.saturating_sub(1)));
    }
}

/// A file that is to become a segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
}

/// The spare files of a log.
#[derive(Debug, Default)]
pub(super) struct Spares {
    files: VecDeque<Spare>,
    next_number: u64,
}

impl Spares {
    /// Takes stock of the spares among `names`; those beyond `keep` are removed.
    pub(super) fn find<D: Disk>(
        disk: &D,
        dir: &Path,
        names: &[String],
        keep: usize,
    ) -> Result<Spares, WalError> {
        let mut spares = Spares::default();
        for name in names {
            let number = name.strip_prefix("spare-");
            let Some(number) = number.and_then(|digits| u64::from_str_radix(digits, 16).ok())
            else {
                continue;
            };
            spares.next_number = spares.next_number.max(number + 1);
            let path = dir.join(name);
            if keep <= spares.files.len() {
                disk.remove(&path).map_err(WalError::io("remove", &path))?;
                continue;
            }
            let file = disk.open(&path).map_err(WalError::io("open", &path))?;
            let size_bytes = file.size_bytes().map_err(WalError::io("look at", &path))?;
            spares.files.push_back(Spare { path, size_bytes });
        }
        Ok(spares)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// What they take on disk.
    pub(super) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|spare| spare.size_bytes).sum()
    }

    /// The spare that is used next.
    pub(super) fn next_mut(&mut self) -> Option<&mut Spare> {
        self.files.front_mut()
    }

    /// Takes the spare that is used next.
    pub(super) fn take(&mut self) -> Option<Spare> {
        self.files.pop_front()
    }

    /// Takes in a file, which is already called `path`.
    pub(super) fn put(&mut self, path: PathBuf, size_bytes: u64) {
        self.files.push_back(Spare { path, size_bytes });
    }

    /// A name no spare has had.
    pub(super) fn new_path(&mut self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("spare-{:016x}", self.next_number));
        self.next_number += 1;
        path
    }
}
