//! The active segment: its creation, growth and syncs.

use std::path::Path;

use keelson_core::Index;

use super::WalConfig;
use super::error::WalError;
use super::frame;
use super::frame_v1::{self, KIND_SEGMENT, SEGMENT_SEED};
use super::item::SegmentHeader;
use super::recovery::FramesEnd;
use super::segment::Segment;
use super::spare::Spare;
use super::watermark::{self, Watermark};
use crate::disk::{Disk, DiskFile};

/// The number of zero bytes written at a time: a few milliseconds of disk time.
pub(super) const ZERO_STEP_BYTES: u64 = 1 << 20;

/// The segment that frames are appended to.
pub(super) struct Active<F> {
    pub(super) segment: Segment,
    pub(super) file: F,
    /// The end of the written zeros or frames. The rest of the file is a hole, which reads as
    /// zeros.
    pub(super) zeroed_bytes: u64,
    pub(super) seed: u32,
    pub(super) end: FramesEnd,
    /// The offset of its watermark. `None` in format 1, and if frames occupy that place.
    pub(super) watermark: Option<u64>,
    /// The end of the frames in the last written watermark.
    pub(super) noted: Option<u64>,
}

impl<F: DiskFile> Active<F> {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WalError> {
        let path = &self.segment.path;
        let written = self.file.write_at(offset, bytes);
        written.map_err(WalError::io("write", path))?;
        self.zeroed_bytes = self.zeroed_bytes.max(offset + bytes.len() as u64);
        Ok(())
    }

    /// The upper limit of the frames' end.
    pub(super) fn frames_end(&self) -> u64 {
        self.watermark.unwrap_or(self.segment.size_bytes)
    }

    /// Writes a durable watermark: the end of the durable frames.
    pub(super) fn write_watermark(
        &mut self,
        config: WalConfig,
        has_next: bool,
    ) -> Result<(), WalError> {
        let Some(place) = self.watermark.filter(|_| !config.unsafe_no_fsync) else {
            return Ok(());
        };
        if !has_next && self.noted == Some(self.end.offset) {
            return Ok(());
        }
        let mark = Watermark {
            end: self.end.offset,
            crc: self.end.crc,
            has_next,
        };
        let written = self.file.write_at(place, &mark.encode(self.seed));
        written.map_err(WalError::io("write", &self.segment.path))?;
        self.sync(config)?;
        self.noted = Some(self.end.offset);
        Ok(())
    }

    /// When the frames have reached the end of the zeros, writes another step of zeros. The rest
    /// of the file is a hole, where a write costs one more sync than over zeros.
    pub(super) fn zero_ahead(&mut self, end: u64) -> Result<(), WalError> {
        let full = self.frames_end();
        if end < self.zeroed_bytes || full <= end {
            return Ok(());
        }
        let to = full.min(end + ZERO_STEP_BYTES);
        write_zeros(&self.file, &self.segment.path, end, to)?;
        self.zeroed_bytes = to;
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

/// Turns a spare file into the segment of that header. Header and length are durable before the
/// file has its name, so that every visible segment has both.
pub(super) fn begin_segment<D: Disk>(
    disk: &D,
    path: &Path,
    header: SegmentHeader,
    prev: u32,
    spare: Spare<D::File>,
) -> Result<Active<D::File>, WalError> {
    let dir = path.parent().unwrap_or(path);
    let Spare {
        path: spare,
        file,
        zeroed_bytes,
    } = spare;
    file.try_lock().map_err(|error| lock_error(&spare, error))?;
    if zeroed_bytes < header.made_bytes {
        let grown = file.write_at(header.made_bytes - 1, &[0]);
        grown.map_err(WalError::io("write", &spare))?;
    }
    let (frame, crc) = frame_v1::seal(&header.encode(), SEGMENT_SEED, KIND_SEGMENT, 0, prev);
    file.write_at(0, &frame)
        .map_err(WalError::io("write", &spare))?;
    file.sync_data().map_err(WalError::io("sync", &spare))?;
    disk.rename(&spare, path)
        .map_err(WalError::io("rename", &spare))?;
    disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
    let offset = first_offset(frame.len() as u64);
    Ok(Active {
        seed: frame::seed(header.identity, header.sequence),
        segment: Segment {
            sequence: header.sequence,
            path: path.to_path_buf(),
            size_bytes: header.made_bytes,
            last: Index(0),
        },
        file,
        zeroed_bytes: zeroed_bytes.max(offset),
        end: FramesEnd {
            last_frame: 0,
            offset,
            crc,
        },
        watermark: Some(watermark::place(header.made_bytes)),
        noted: None,
    })
}

/// The offset of the first frame, after a header of that size.
pub(super) fn first_offset(header_bytes: u64) -> u64 {
    header_bytes.next_multiple_of(frame::ALIGNMENT)
}

/// The error for a lock that another process holds.
pub(super) fn lock_error(path: &Path, error: std::io::Error) -> WalError {
    match error.kind() {
        std::io::ErrorKind::WouldBlock => WalError::Locked {
            dir: path.parent().unwrap_or(path).to_path_buf(),
        },
        _ => WalError::io("lock", path)(error),
    }
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
