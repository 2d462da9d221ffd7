//! The segment that is written to: how it begins, grows and is synced.

use std::path::Path;

use keelson_core::Index;

use super::WalConfig;
use super::error::WalError;
use super::frame::{self, HEADER_BYTES, KIND_SEGMENT, SEGMENT_SEED};
use super::item::SegmentHeader;
use super::recovery::End;
use super::segment::{Segment, Spares};
use crate::disk::{Disk, DiskFile};

/// Zeros are written this many bytes at a time: a few milliseconds of disk.
pub(super) const ZERO_STEP_BYTES: u64 = 1 << 20;

/// The segment that is written to.
pub(super) struct Active<F> {
    pub(super) segment: Segment,
    pub(super) file: F,
    pub(super) seed: u32,
    pub(super) end: End,
}

impl<F: DiskFile> Active<F> {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WalError> {
        let path = &self.segment.path;
        let written = self.file.write_at(offset, bytes);
        written.map_err(WalError::io("write", path))?;
        let end = offset + bytes.len() as u64;
        self.segment.size_bytes = self.segment.size_bytes.max(end);
        Ok(())
    }

    /// When the frames have reached the end of the file, grows it by a step of zeros.
    pub(super) fn zero_ahead(&mut self, end: u64, full: u64) -> Result<(), WalError> {
        if end < self.segment.size_bytes || full <= end {
            return Ok(());
        }
        let to = full.min(end + ZERO_STEP_BYTES);
        write_zeros(&self.file, &self.segment.path, end, to)?;
        self.segment.size_bytes = to;
        Ok(())
    }

    pub(super) fn sync(&self, config: WalConfig) -> Result<(), WalError> {
        match config.unsafe_no_fsync {
            true => Ok(()),
            false => {
                let synced = self.file.sync_data();
                synced.map_err(WalError::io("sync", &self.segment.path))
            }
        }
    }
}

/// Makes a spare file, or a new one, the segment of that header.
pub(super) fn begin_segment<D: Disk>(
    disk: &D,
    path: &Path,
    header: SegmentHeader,
    prev: u32,
    spares: &mut Spares,
) -> Result<Active<D::File>, WalError> {
    let dir = path.parent().unwrap_or(path);
    let (spare, size_bytes, file) = match spares.take() {
        Some(spare) => {
            let file = disk.open(&spare.path);
            (spare.path, spare.size_bytes, file)
        }
        None => {
            let spare = spares.new_path(dir);
            let file = disk.create(&spare);
            (spare, 0, file)
        }
    };
    let file = file.map_err(WalError::io("open", &spare))?;
    let mut payload = vec![0; HEADER_BYTES];
    header.encode(&mut payload);
    let crc = frame::seal(&mut payload, SEGMENT_SEED, KIND_SEGMENT, 0, prev);
    file.write_at(0, &payload)
        .map_err(WalError::io("write", &spare))?;
    file.sync_data().map_err(WalError::io("sync", &spare))?;
    disk.rename(&spare, path)
        .map_err(WalError::io("rename", &spare))?;
    disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
    let offset = payload.len() as u64;
    Ok(Active {
        seed: frame::seed(header.identity, header.sequence),
        segment: Segment {
            sequence: header.sequence,
            path: path.to_path_buf(),
            size_bytes: size_bytes.max(offset),
            last: Index(0),
        },
        file,
        end: End {
            last_frame: 0,
            offset,
            crc,
        },
    })
}

pub(super) fn write_zeros(
    file: &impl DiskFile,
    path: &Path,
    from: u64,
    to: u64,
) -> Result<(), WalError> {
    let length = usize::try_from(to - from).expect("one step of zeros");
    let written = file.write_at(from, &vec![0; length]);
    written.map_err(WalError::io("write", path))
}
