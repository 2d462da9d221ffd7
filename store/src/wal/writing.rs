//! Turns batches into frames, rotates segments, and removes obsolete ones.

use std::time::Instant;

use keelson_core::Index;

use super::active::{begin_segment, first_offset};
use super::item::{self, SegmentHeader};
use super::recovery::FramesEnd;
use super::segment::Segment;
use super::{Wal, WalConfig, WalError, frame, frame_v1, watermark};
use crate::disk::Disk;

/// A larger buffer is freed after the batch that needed it.
const PENDING_BYTES: usize = 1 << 20;

impl<D: Disk> Wal<D> {
    pub(super) fn write_pending(&mut self) -> Result<(), WalError> {
        let size = frame::size_bytes(self.active.end.offset, self.pending.len());
        if self.active.frames_end() < self.active.end.offset + size {
            self.rotate()?;
        }
        let active = &mut self.active;
        let FramesEnd { offset, crc, .. } = active.end;
        let crc = frame::seal(&mut self.frame, &self.pending, active.seed, offset, crc);
        let end = offset + self.frame.len() as u64;
        let began = Instant::now();
        active.write(offset, &self.frame)?;
        active.zero_ahead(end)?;
        self.write_took = began.elapsed();
        active.sync(self.config)?;
        active.end = FramesEnd {
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

    /// Begins the next segment, with room for the pending batch.
    pub(super) fn rotate(&mut self) -> Result<(), WalError> {
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
            // The spare is not needed yet.
            Err(WalError::DiskFull { .. }) => Ok(()),
            other => other,
        }
    }

    /// Removes segments whose entries are all covered by the mark. Oldest first, each durably, so
    /// that the remaining ones never have a gap.
    pub(super) fn drop_obsolete(&mut self) -> Result<(), WalError> {
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

    pub(super) fn prepare_step(&mut self) -> Result<bool, WalError> {
        let from = self.active.zeroed_bytes;
        if from < self.active.frames_end() {
            self.active.zero_ahead(from)?;
            self.active.sync(self.config)?;
            return Ok(true);
        }
        self.spares.open_next(&*self.disk, &self.dir)?;
        self.spares.prepare(self.config)
    }
}

/// The length of a segment whose first frame has a payload of that size.
pub(super) fn made_bytes(config: WalConfig, payload: usize) -> u64 {
    let first = first_offset(frame_v1::size_bytes(SegmentHeader::BYTES));
    let frames_end = first + frame::size_bytes(first, payload);
    config.segment_bytes.max(watermark::made_bytes(frames_end))
}
