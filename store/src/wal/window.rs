//! A window on a segment: reads far ahead, keeps little, and knows frames from other bytes.

use std::io;

use super::frame::{self, ALIGNMENT, HEADER_BYTES};
use crate::disk::DiskFile;

const READ_AHEAD_BYTES: usize = 256 << 10;

/// A file seen through a buffer.
pub(super) struct Window<'a, F> {
    file: &'a F,
    size_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
}

/// A frame that verified.
pub(super) struct Frame<'a> {
    pub(super) payload: &'a [u8],
    pub(super) prev: u32,
    pub(super) crc: u32,
    pub(super) size_bytes: u64,
}

impl<'a, F: DiskFile> Window<'a, F> {
    /// A window on the whole file.
    pub(super) fn new(file: &'a F) -> io::Result<Window<'a, F>> {
        Ok(Window {
            size_bytes: file.size_bytes()?,
            file,
            start: 0,
            buffer: Vec::new(),
        })
    }

    /// The file's length.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes from `offset` on, `length` of them or as many as the file has.
    pub(super) fn slice(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let end = self.start + self.buffer.len() as u64;
        if offset < self.start || end < offset + length as u64 {
            self.buffer
                .resize(length.max(READ_AHEAD_BYTES).min(left), 0);
            let read = self.file.read_at(offset, &mut self.buffer)?;
            self.buffer.truncate(read);
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        let rest = &self.buffer[from.min(self.buffer.len())..];
        Ok(&rest[..length.min(rest.len())])
    }

    /// The frame at `offset`, if there is a whole one of that kind.
    pub(super) fn frame(
        &mut self,
        seed: u32,
        kind: u8,
        offset: u64,
    ) -> io::Result<Option<Frame<'_>>> {
        let head = self.slice(offset, HEADER_BYTES)?;
        let Some(header) = frame::header(head, seed, kind, offset) else {
            return Ok(None);
        };
        let payload = self.slice(offset + HEADER_BYTES as u64, header.length)?;
        if payload.len() != header.length || !header.verifies(seed, payload) {
            return Ok(None);
        }
        Ok(Some(Frame {
            payload,
            prev: header.prev,
            crc: header.crc,
            size_bytes: frame::size_bytes(header.length),
        }))
    }

    /// Whether a frame of that kind was begun at `offset`, be it whole or not.
    pub(super) fn begins(&mut self, seed: u32, kind: u8, offset: u64) -> io::Result<bool> {
        let head = self.slice(offset, HEADER_BYTES)?;
        Ok(frame::header(head, seed, kind, offset).is_some())
    }

    /// The first whole frame at or behind `from`.
    pub(super) fn scan(&mut self, seed: u32, kind: u8, from: u64) -> io::Result<Option<u64>> {
        let mut at = from.next_multiple_of(ALIGNMENT);
        loop {
            let chunk = self.slice(at, READ_AHEAD_BYTES)?;
            if chunk.len() < HEADER_BYTES {
                return Ok(None);
            }
            let (candidate, next) = candidate(chunk, seed, kind, at);
            at = next;
            if let Some(offset) = candidate
                && self.frame(seed, kind, offset)?.is_some()
            {
                return Ok(Some(offset));
            }
        }
    }
}

/// Where in the chunk a frame may begin, and where to look on.
fn candidate(chunk: &[u8], seed: u32, kind: u8, at: u64) -> (Option<u64>, u64) {
    let mut offset = at;
    for unit in chunk.chunks_exact(8) {
        let next = offset + ALIGNMENT;
        if unit[4..] == frame::kind_and_place(seed, kind, offset) {
            return (Some(offset), next);
        }
        offset = next;
    }
    (None, offset)
}
