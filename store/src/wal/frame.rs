//! Frames: the unit of durability. A sync makes one frame durable as a whole, or not at all.
//!
//! ```text
//! 0     4     8    12      16
//! mark  prev  crc  length  payload ... zeros, a trailer of 8 bytes, at a multiple of 16
//! ```
//!
//! All numbers are little endian. `mark` is the kind and a hash of seed and offset. It makes a scan
//! for frames after a damaged one cheap, and a frame that was moved is not valid. `prev` is the
//! `crc` of the previous frame, across segments too: a lost write breaks the chain. `crc` is the
//! CRC32C of the seed, the other 12 header bytes and the payload; the seed is derived from identity
//! and segment sequence. `length` is the payload's, with its two highest bits set.
//!
//! **Torn or damaged.** A frame is written over zeros, and the disk writes sectors of 512 bytes or
//! more. A sector that was not written, or only in part, must be distinguishable from one that has
//! changed since. So the first and the last byte of a frame in every sector are not zero. The mark
//! begins with the kind, `length` ends with set bits, and the trailer ends with a set byte. In
//! between, [`EDGE`] precedes and follows each sector boundary. `tail.rs` relies on it.

use crc32c::{crc32c, crc32c_append};

use super::Identity;
use crate::disk::sim::SECTOR_BYTES;

/// The size of the header, in bytes.
pub(super) const HEADER_BYTES: usize = 16;
/// Frames begin at multiples of this, so that no header or trailer crosses a sector boundary.
pub(super) const ALIGNMENT: u64 = 16;
/// The first byte of a frame. It has several set bits, so that no single bit flip makes it zero.
pub(super) const KIND_BATCH: u8 = 0xb6;
/// The size of the trailer, in bytes.
pub(super) const TRAILER_BYTES: u64 = 8;
/// The byte at the sector boundaries within a frame.
const EDGE: u8 = 0xa5;
/// Set in every length, so that its last byte is not zero.
const LENGTH_MARK: u32 = 0xc000_0000;
const SECTOR: u64 = SECTOR_BYTES as u64;

/// The seed of a segment's frames.
pub(super) fn seed(identity: Identity, sequence: u64) -> u32 {
    let seed = crc32c(&identity.cluster.0.to_le_bytes());
    let seed = crc32c_append(seed, &identity.member.0.to_le_bytes());
    crc32c_append(seed, &sequence.to_le_bytes())
}

/// The first four bytes of a frame at that offset.
pub(super) fn mark(seed: u32, offset: u64) -> [u8; 4] {
    let position = u32::try_from(offset / ALIGNMENT % (1 << 32)).expect("reduced to 32 bits");
    let hash = (position ^ seed).wrapping_mul(0x9e37_79b1) >> 8;
    (hash << 8 | u32::from(KIND_BATCH)).to_le_bytes()
}

/// The trailer of a frame that begins at that offset. It depends on the offset, so that the end
/// of a frame can be found without its header.
pub(super) fn trailer(seed: u32, offset: u64) -> [u8; 8] {
    let place = (u64::from(seed) << 32) ^ offset;
    let mut bytes = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    bytes[7] |= 0xc3;
    bytes
}

/// The number of offsets in `from..to` that are the first or the last of a sector.
fn edges(from: u64, to: u64) -> u64 {
    let below = |offset: u64| offset.div_ceil(SECTOR) + offset / SECTOR;
    below(to).saturating_sub(below(from))
}

/// Whether the byte at that offset is the first or the last of its sector.
pub(super) fn is_edge(offset: u64) -> bool {
    matches!(offset % SECTOR, 0) || offset % SECTOR == SECTOR - 1
}

/// The size on disk of a frame at `offset`, a multiple of [`ALIGNMENT`], with a payload of that
/// size.
pub(super) fn size_bytes(offset: u64, payload: usize) -> u64 {
    let first = offset + HEADER_BYTES as u64;
    let payload = payload as u64;
    let mut end = (first + payload + TRAILER_BYTES).next_multiple_of(ALIGNMENT);
    loop {
        let last = end - TRAILER_BYTES;
        let room = last - first - edges(first, last);
        if payload <= room {
            return end - offset;
        }
        end = (end + payload - room).next_multiple_of(ALIGNMENT);
    }
}

/// Encodes the payload as a frame at that offset into `frame`; returns its crc.
pub(super) fn seal(frame: &mut Vec<u8>, payload: &[u8], seed: u32, offset: u64, prev: u32) -> u32 {
    let length = u32::try_from(payload.len()).expect("a batch is far smaller than 1 GiB");
    assert!(length < LENGTH_MARK, "a batch is far smaller than 1 GiB");
    let header = Header {
        length: payload.len(),
        prev,
        crc: 0,
        mark: mark(seed, offset),
    };
    let crc = header.checksum(seed, payload);
    let end = offset + size_bytes(offset, payload.len());
    frame.clear();
    frame.extend_from_slice(&header.mark);
    frame.extend_from_slice(&prev.to_le_bytes());
    frame.extend_from_slice(&crc.to_le_bytes());
    frame.extend_from_slice(&(length | LENGTH_MARK).to_le_bytes());
    let mut rest = payload;
    for piece in pieces(offset, end) {
        match piece {
            Piece::Edge => frame.push(EDGE),
            Piece::Payload(room) => {
                let (now, later) = rest.split_at(room.min(rest.len()));
                frame.extend_from_slice(now);
                frame.resize(frame.len() + room - now.len(), 0);
                rest = later;
            }
        }
    }
    frame.extend_from_slice(&trailer(seed, offset));
    crc
}

/// Copies the payload out of a frame's bytes.
pub(super) fn payload(frame: &[u8], offset: u64, length: usize, payload: &mut Vec<u8>) {
    payload.clear();
    let mut rest = frame.get(HEADER_BYTES..).unwrap_or_default();
    for piece in pieces(offset, offset + frame.len() as u64) {
        let size = match piece {
            Piece::Edge => 1,
            Piece::Payload(size) => size,
        };
        let (now, later) = rest.split_at(size.min(rest.len()));
        if let Piece::Payload(_) = piece {
            payload.extend_from_slice(now);
        }
        rest = later;
    }
    payload.truncate(length);
}

enum Piece {
    Edge,
    /// A part of the payload, with its size in bytes.
    Payload(usize),
}

/// The pieces between header and trailer of a frame from `offset` to `end`.
fn pieces(offset: u64, end: u64) -> impl Iterator<Item = Piece> {
    let last = end - TRAILER_BYTES;
    let mut at = offset + HEADER_BYTES as u64;
    std::iter::from_fn(move || {
        if last <= at {
            return None;
        }
        if is_edge(at) {
            at += 1;
            return Some(Piece::Edge);
        }
        let border = at - at % SECTOR + SECTOR - 1;
        let to = border.min(last);
        let room = usize::try_from(to - at).expect("less than a sector");
        at = to;
        Some(Piece::Payload(room))
    })
}

/// A frame header whose checksum has not been verified.
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) prev: u32,
    pub(super) crc: u32,
    mark: [u8; 4],
}

/// Parses a header, if the bytes begin like a frame at that offset.
pub(super) fn header(bytes: &[u8], seed: u32, offset: u64) -> Option<Header> {
    let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let (mark, rest) = bytes.split_first_chunk::<4>()?;
    let word = |at: usize| rest[at..].first_chunk().copied().map(u32::from_le_bytes);
    let length = word(8)?;
    if *mark != self::mark(seed, offset) || length & LENGTH_MARK != LENGTH_MARK {
        return None;
    }
    Some(Header {
        length: usize::try_from(length & !LENGTH_MARK).ok()?,
        prev: word(0)?,
        crc: word(4)?,
        mark: *mark,
    })
}

impl Header {
    /// Whether the checksum matches the payload.
    pub(super) fn verifies(&self, seed: u32, payload: &[u8]) -> bool {
        self.checksum(seed, payload) == self.crc
    }

    fn checksum(&self, seed: u32, payload: &[u8]) -> u32 {
        let crc = crc32c_append(seed, &self.mark);
        let crc = crc32c_append(crc, &self.prev.to_le_bytes());
        let crc = crc32c_append(crc, &(self.length as u64).to_le_bytes());
        crc32c_append(crc, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sector_of_a_frame_begins_and_ends_with_a_set_byte() {
        for offset in (0..1024).step_by(16) {
            for length in (0..40).chain(440..560).chain(1500..1560) {
                let zeros = vec![0; length];
                let mut frame = Vec::new();
                seal(&mut frame, &zeros, 7, offset, 0);
                assert_eq!(frame.len() as u64, size_bytes(offset, length));
                let end = offset + frame.len() as u64;
                let set = |at: u64| frame[usize::try_from(at - offset).unwrap()] != 0;
                assert!(set(offset) && set(end - 1));
                let edges = (offset..end).filter(|at| is_edge(*at));
                assert!(edges.into_iter().all(set), "{offset} {length}");
            }
        }
    }

    #[test]
    fn a_payload_comes_back_whatever_the_borders_cut() {
        for offset in (0..1024).step_by(16) {
            for length in (0..40).chain(440..560).chain(1500..1560) {
                let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
                let (mut frame, mut found) = (Vec::new(), Vec::new());
                let crc = seal(&mut frame, &bytes, 7, offset, 9);
                let header = header(&frame, 7, offset).expect("a header");
                payload(&frame, offset, header.length, &mut found);
                assert_eq!(found, bytes);
                assert!(header.verifies(7, &found));
                assert_eq!((header.prev, header.crc), (9, crc));
            }
        }
    }
}
