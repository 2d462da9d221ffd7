//! The file names of segments.
//!
//! `<sequence>-<first index>.wal`, 16 hexadecimal digits each; sequences have no gaps. The file
//! of the next segment is named `spare-<number>` until it has its header (`spare.rs`).

use std::path::{Path, PathBuf};

use keelson_core::Index;

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
    /// The path of a segment.
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

    /// Records that entries from `index` on were replaced by a later segment.
    pub(super) fn replaced_from(&mut self, index: Index) {
        self.last = self.last.min(Index(index.0.saturating_sub(1)));
    }
}
