//! A buffered window on a segment: reads far ahead, keeps little in memory, and finds frames.

use std::io;

use super::{frame, frame_v1};
use crate::disk::DiskFile;

const READ_AHEAD_BYTES: usize = 256 << 10;

/// The format of a segment's frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) seed: u32,
    /// The format version of `item.rs`: 1, or the present one.
    pub(super) version: u32,
    /// The segment length in the header.
    pub(super) made_bytes: u64,
}

impl Style {
    fn alignment(self) -> u64 {
        match self.version {
            1 => frame_v1::ALIGNMENT,
            _ => frame::ALIGNMENT,
        }
    }
}

/// A file that is read through a buffer.
pub(super) struct Window<'a, F> {
    file: &'a F,
    size_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
    /// A payload without the bytes at its sector boundaries.
    payload: Vec<u8>,
}

/// A frame whose checksum matches.
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
            payload: Vec::new(),
        })
    }

    /// The length of the file, in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Sets the end of the visible file.
    pub(super) fn end_at(&mut self, size_bytes: u64) {
        self.size_bytes = self.size_bytes.min(size_bytes);
        self.start = 0;
        self.buffer.clear();
    }

    /// The `length` bytes from `offset` on, or fewer at the end of the file.
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

    /// The segment's first frame, if it is whole.
    pub(super) fn first_frame(&mut self) -> io::Result<Option<Frame<'_>>> {
        self.frame_v1(frame_v1::SEGMENT_SEED, frame_v1::KIND_SEGMENT, 0)
    }

    /// The frame at `offset`, if there is a whole one.
    pub(super) fn frame(&mut self, style: Style, offset: u64) -> io::Result<Option<Frame<'_>>> {
        if style.version == 1 {
            return self.frame_v1(style.seed, frame_v1::KIND_BATCH, offset);
        }
        let head = self.slice(offset, frame::HEADER_BYTES)?;
        let Some(header) = frame::header(head, style.seed, offset) else {
            return Ok(None);
        };
        let size_bytes = frame::size_bytes(offset, header.length);
        if self.size_bytes < offset + size_bytes {
            return Ok(None);
        }
        let mut payload = std::mem::take(&mut self.payload);
        let length = usize::try_from(size_bytes).map_err(io::Error::other)?;
        let bytes = self.slice(offset, length)?;
        frame::payload(bytes, offset, header.length, &mut payload);
        self.payload = payload;
        if self.payload.len() != header.length || !header.verifies(style.seed, &self.payload) {
            return Ok(None);
        }
        Ok(Some(Frame {
            payload: &self.payload,
            prev: header.prev,
            crc: header.crc,
            size_bytes,
        }))
    }

    fn frame_v1(&mut self, seed: u32, kind: u8, offset: u64) -> io::Result<Option<Frame<'_>>> {
        let head = self.slice(offset, frame_v1::HEADER_BYTES)?;
        let Some(header) = frame_v1::header(head, seed, kind, offset) else {
            return Ok(None);
        };
        let payload = self.slice(offset + frame_v1::HEADER_BYTES as u64, header.length)?;
        if payload.len() != header.length || !header.verifies(seed, payload) {
            return Ok(None);
        }
        Ok(Some(Frame {
            payload,
            prev: header.prev,
            crc: header.crc,
            size_bytes: frame_v1::size_bytes(header.length),
        }))
    }

    /// Whether a frame of format 1 was begun at `offset`, whole or not.
    pub(super) fn begins_v1(&mut self, seed: u32, offset: u64) -> io::Result<bool> {
        let head = self.slice(offset, frame_v1::HEADER_BYTES)?;
        Ok(frame_v1::header(head, seed, frame_v1::KIND_BATCH, offset).is_some())
    }

    /// The offset of the first whole frame at or after `from`.
    pub(super) fn scan(&mut self, style: Style, from: u64) -> io::Result<Option<u64>> {
        let mut at = from.next_multiple_of(style.alignment());
        loop {
            let chunk = self.slice(at, READ_AHEAD_BYTES)?;
            if chunk.len() < frame::HEADER_BYTES {
                return Ok(None);
            }
            let (candidate, next) = candidate(chunk, style, at);
            at = next;
            if let Some(offset) = candidate
                && self.frame(style, offset)?.is_some()
            {
                return Ok(Some(offset));
            }
        }
    }

    /// The offset of the last nonzero byte at or after `from`.
    pub(super) fn last_set(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut last = None;
        let mut at = from;
        loop {
            let chunk = self.slice(at, READ_AHEAD_BYTES)?;
            if chunk.is_empty() {
                return Ok(last);
            }
            if let Some(found) = chunk.iter().rposition(|byte| *byte != 0) {
                last = Some(at + found as u64);
            }
            at += chunk.len() as u64;
        }
    }
}

/// The first offset in the chunk where a frame may begin, and where to continue the search.
fn candidate(chunk: &[u8], style: Style, at: u64) -> (Option<u64>, u64) {
    let mut offset = at;
    let alignment = style.alignment();
    let unit_bytes = usize::try_from(alignment).expect("8 or 16");
    for unit in chunk.chunks_exact(unit_bytes) {
        let next = offset + alignment;
        let begins = match style.version {
            1 => unit[4..8] == frame_v1::kind_and_place(style.seed, frame_v1::KIND_BATCH, offset),
            _ => unit[..4] == frame::mark(style.seed, offset),
        };
        if begins {
            return (Some(offset), next);
        }
        offset = next;
    }
    (None, offset)
}
