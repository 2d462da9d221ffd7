//! Frames of format 1, which is also the format of a segment's first frame: so a program that
//! reads only format 1 can report the version of the log.
//!
//! ```text
//! 0      4     5      8      12     16
//! length kind  place  prev   crc    payload ... zeros up to a multiple of 8
//! ```
//!
//! They carry no marks at sector boundaries: an unfinished frame is indistinguishable from a
//! damaged one. Format 1 is read but never written.

use crc32c::crc32c_append;

/// The size of the header, in bytes.
pub(super) const HEADER_BYTES: usize = 16;
/// Frames begin at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;
/// The first frame of a segment.
pub(super) const KIND_SEGMENT: u8 = 1;
/// Every other frame.
pub(super) const KIND_BATCH: u8 = 2;
/// The seed of a segment's first frame, which is read before the identity is available.
pub(super) const SEGMENT_SEED: u32 = 0x4b45_454c;

/// The second four bytes of a frame of that kind at that offset.
pub(super) fn kind_and_place(seed: u32, kind: u8, offset: u64) -> [u8; 4] {
    let position = u32::try_from(offset / ALIGNMENT % (1 << 32)).expect("reduced to 32 bits");
    let hash = (position ^ seed).wrapping_mul(0x9e37_79b1) >> 8;
    (hash << 8 | u32::from(kind)).to_le_bytes()
}

/// The size on disk of a frame with a payload of that size.
pub(super) fn size_bytes(payload: usize) -> u64 {
    ((HEADER_BYTES + payload) as u64).next_multiple_of(ALIGNMENT)
}

/// Encodes the payload as a frame; returns the frame and its crc.
pub(super) fn seal(payload: &[u8], seed: u32, kind: u8, offset: u64, prev: u32) -> (Vec<u8>, u32) {
    let length = u32::try_from(payload.len()).expect("a header is short");
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len() + 8);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&kind_and_place(seed, kind, offset));
    frame.extend_from_slice(&prev.to_le_bytes());
    let crc = checksum(seed, &frame, payload);
    frame.extend_from_slice(&crc.to_le_bytes());
    frame.extend_from_slice(payload);
    frame.resize(HEADER_BYTES + payload.len().next_multiple_of(8), 0);
    (frame, crc)
}

/// A frame header whose checksum has not been verified.
pub(super) struct HeaderV1 {
    pub(super) length: usize,
    pub(super) prev: u32,
    pub(super) crc: u32,
    bytes: [u8; 12],
}

/// Parses a header, if bytes 4 to 8 match that kind and offset.
pub(super) fn header(bytes: &[u8], seed: u32, kind: u8, offset: u64) -> Option<HeaderV1> {
    let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    if bytes[4..8] != kind_and_place(seed, kind, offset) {
        return None;
    }
    let (head, crc) = bytes.split_first_chunk::<12>()?;
    let word = |at: usize| head[at..].first_chunk().copied().map(u32::from_le_bytes);
    Some(HeaderV1 {
        length: usize::try_from(word(0)?).ok()?,
        prev: word(8)?,
        crc: u32::from_le_bytes(*crc.first_chunk()?),
        bytes: *head,
    })
}

impl HeaderV1 {
    /// Whether the checksum matches the payload.
    pub(super) fn verifies(&self, seed: u32, payload: &[u8]) -> bool {
        checksum(seed, &self.bytes, payload) == self.crc
    }
}

fn checksum(seed: u32, head: &[u8], payload: &[u8]) -> u32 {
    crc32c_append(crc32c_append(seed, head), payload)
}
