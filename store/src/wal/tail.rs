//! Classifies the bytes after the last whole frame: zeros, a write that a crash interrupted, or
//! damage to durable bytes.
//!
//! A crash leaves every sector of an unfinished frame old (zeros), new, or new up to some byte
//! and old after it, or the reverse. So an unfinished frame has a sector in which the first or
//! last byte of the frame is zero. A frame that was durable has none (`frame.rs`); if it does not
//! verify, it has changed since. Header and trailer both give the frame's end; if they
//! contradict, one has changed.
//!
//! A first or last byte of a sector that decays to zero looks like a write that stopped one byte
//! early. A decayed last sector looks as if nothing was written to it yet, for all frames in it.
//! The watermark still records what was durable when the log was at rest (`watermark.rs`).

use std::io;

use super::frame::{self, ALIGNMENT, HEADER_BYTES, TRAILER_BYTES};
use super::recovery::FramesEnd;
use super::window::{Style, Window};
use crate::disk::DiskFile;
use crate::disk::sim::SECTOR_BYTES;

/// The state of the bytes after the last whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Only zeros.
    Clean,
    /// A frame that was never synced.
    Torn,
    /// A frame that was synced, or bytes that this program never wrote.
    Damaged(&'static str),
}

/// Classifies the bytes after `end`, where no whole frame begins.
pub(super) fn judge<F: DiskFile>(
    window: &mut Window<'_, F>,
    style: Style,
    end: FramesEnd,
) -> io::Result<Tail> {
    let start = end.offset;
    let Some(last) = window.last_set(start)? else {
        return Ok(Tail::Clean);
    };
    let head = head(window, start)?;
    let header = frame::header(&head, style.seed, start).filter(|header| header.prev == end.crc);
    let by_header = header.map(|header| start + frame::size_bytes(start, header.length));
    let by_trailer = trailer_end(window, style, start, last)?;
    if head[0] != 0 && by_header.is_none() && !is_cut_short(window, style, end, &head)? {
        return Ok(Tail::Damaged("the bytes here are not a frame header"));
    }
    let end = match (by_header, by_trailer) {
        (Some(one), Some(other)) if one != other => {
            return Ok(Tail::Damaged("its length has changed since it was written"));
        }
        (Some(end), _) if window.size_bytes() < end => {
            return Ok(Tail::Damaged(
                "its length is more than the segment has room for",
            ));
        }
        (Some(end), _) if end <= last => {
            return Ok(Tail::Damaged("bytes that were never written follow it"));
        }
        (Some(end), _) | (None, Some(end)) => end,
        (None, None) if is_end_of_later(window, style, start, last)? => {
            return Ok(Tail::Damaged("a later frame follows it"));
        }
        // There is no header or only its beginning, and no trailer.
        (None, None) => return Ok(Tail::Torn),
    };
    match has_unwritten_sector(window, start, end)? {
        true => Ok(Tail::Torn),
        false => Ok(Tail::Damaged(
            "it was written completely, and does not verify any more",
        )),
    }
}

/// The first bytes after the last whole frame; zeros beyond the end of the file.
fn head<F: DiskFile>(window: &mut Window<'_, F>, start: u64) -> io::Result<[u8; HEADER_BYTES]> {
    let mut head = [0; HEADER_BYTES];
    let bytes = window.slice(start, HEADER_BYTES)?;
    head[..bytes.len()].copy_from_slice(bytes);
    Ok(head)
}

/// The end of the frame at `start`, if the last nonzero byte belongs to its trailer.
fn trailer_end<F: DiskFile>(
    window: &mut Window<'_, F>,
    style: Style,
    start: u64,
    last: u64,
) -> io::Result<Option<u64>> {
    let end = last + 1;
    if end < start + HEADER_BYTES as u64 + TRAILER_BYTES {
        return Ok(None);
    }
    let trailer = frame::trailer(style.seed, start);
    let found = window.slice(end - TRAILER_BYTES, trailer.len())? == trailer;
    Ok(found.then_some(end))
}

/// Whether the last nonzero byte belongs to the trailer of a later frame. A later frame is only
/// written after the frame at `start` was durable.
fn is_end_of_later<F: DiskFile>(
    window: &mut Window<'_, F>,
    style: Style,
    start: u64,
    last: u64,
) -> io::Result<bool> {
    let end = last + 1;
    let Some(trailer_at) = end.checked_sub(TRAILER_BYTES) else {
        return Ok(false);
    };
    let mut found = [0; 8];
    let bytes = window.slice(trailer_at, found.len())?;
    if bytes.len() < found.len() {
        return Ok(false);
    }
    found.copy_from_slice(bytes);
    let step = usize::try_from(ALIGNMENT).map_err(io::Error::other)?;
    let mut later = (start + ALIGNMENT..trailer_at).step_by(step);
    Ok(later.any(|offset| frame::trailer(style.seed, offset) == found))
}

/// Whether an incomplete header lies in a sector that was written only up to some byte.
fn is_cut_short<F: DiskFile>(
    window: &mut Window<'_, F>,
    style: Style,
    end: FramesEnd,
    head: &[u8; HEADER_BYTES],
) -> io::Result<bool> {
    let mut known = [0; 8];
    known[..4].copy_from_slice(&frame::mark(style.seed, end.offset));
    known[4..].copy_from_slice(&end.crc.to_le_bytes());
    let right = known.iter().zip(head).take_while(|(is, found)| is == found);
    let cut = match right.count() {
        // The original checksum and length are lost, but the last byte of the length was not zero.
        8 => HEADER_BYTES - 1,
        right => right,
    };
    let sector = SECTOR_BYTES as u64;
    let border = (end.offset + 1).next_multiple_of(sector);
    let from = end.offset + cut as u64;
    let rest = usize::try_from(border - from).map_err(io::Error::other)?;
    Ok(window.slice(from, rest)?.iter().all(|byte| *byte == 0))
}

/// Whether some sector of a frame was not written, or only in part.
fn has_unwritten_sector<F: DiskFile>(
    window: &mut Window<'_, F>,
    start: u64,
    end: u64,
) -> io::Result<bool> {
    let mut at = start;
    while at < end {
        let border = ((at + 1).next_multiple_of(SECTOR_BYTES as u64)).min(end);
        let length = usize::try_from(border - at).map_err(io::Error::other)?;
        let bytes = window.slice(at, length)?;
        let written = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != 0);
        if bytes.len() < length || !written(bytes.first()) || !written(bytes.last()) {
            return Ok(true);
        }
        at = border;
    }
    Ok(false)
}
