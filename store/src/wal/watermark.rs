//! The watermark in the last sector of a segment: how far its frames were durable, and whether
//! the log continued in another segment.
//!
//! ```text
//! 0    8    12    13 ... 16       20
//! end  crc  next  zeros  checksum
//! ```
//!
//! All numbers are little endian. `end` is where the last durable frame ends, `crc` that frame's,
//! and `next` is 1 once the next segment has its name. The checksum is the CRC32C of the seed and
//! the preceding bytes.
//!
//! It is written only when frames are durable: after some idle time, and when the log continues
//! in the next segment. So it states less than is durable, never more. Without it, a frame that
//! decayed to zeros would look as if it was never written, and a removed segment as if it never
//! existed. A torn watermark states nothing.

use std::io;

use crc32c::{crc32c, crc32c_append};

use super::window::Window;
use crate::disk::DiskFile;
use crate::disk::sim::SECTOR_BYTES;

const BYTES: usize = 20;
const SECTOR: u64 = SECTOR_BYTES as u64;
const NAME: &[u8] = b"watermark";

/// The content of a segment's last sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watermark {
    /// The end of the last durable frame.
    pub(super) end: u64,
    /// The crc of that frame.
    pub(super) crc: u32,
    /// The log has continued in the next segment.
    pub(super) has_next: bool,
}

/// The offset of the watermark in a segment of that length.
pub(super) fn place(made_bytes: u64) -> u64 {
    (made_bytes / SECTOR).saturating_sub(1) * SECTOR
}

/// The minimum length of a segment whose frames end there.
pub(super) fn made_bytes(frames_end: u64) -> u64 {
    frames_end.next_multiple_of(SECTOR) + SECTOR
}

impl Watermark {
    /// The bytes to write, in a segment with that seed.
    pub(super) fn encode(self, seed: u32) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.end.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.crc.to_le_bytes());
        bytes[12] = u8::from(self.has_next);
        let checksum = checksum(seed, &bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], seed: u32) -> Option<Watermark> {
        let (stated, sum) = bytes.split_first_chunk::<16>()?;
        if sum != checksum(seed, stated).to_le_bytes() {
            return None;
        }
        Some(Watermark {
            end: u64::from_le_bytes(*stated.first_chunk()?),
            crc: u32::from_le_bytes(*stated[8..].first_chunk()?),
            has_next: stated[12] == 1,
        })
    }
}

/// The watermark at `place`; `None` if it was not written, or only in part.
pub(super) fn read<F: DiskFile>(
    window: &mut Window<'_, F>,
    seed: u32,
    place: u64,
) -> io::Result<Option<Watermark>> {
    Ok(Watermark::decode(window.slice(place, BYTES)?, seed))
}

fn checksum(seed: u32, stated: &[u8]) -> u32 {
    crc32c_append(seed ^ crc32c(NAME), stated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_watermark_states_nothing() {
        let mark = Watermark {
            end: 0x1234,
            crc: 7,
            has_next: true,
        };
        let bytes = mark.encode(9);
        assert_eq!(Watermark::decode(&bytes, 9), Some(mark));
        assert_eq!(Watermark::decode(&bytes, 8), None);
        assert_eq!(Watermark::decode(&[0; BYTES], 9), None);
        for at in 0..BYTES {
            for bit in 0..8 {
                let mut damaged = bytes;
                damaged[at] ^= 1 << bit;
                assert_eq!(Watermark::decode(&damaged, 9), None);
            }
        }
    }

    #[test]
    fn it_has_a_sector_behind_all_frames() {
        for end in 100..5000 {
            let made = made_bytes(end);
            assert!(end <= place(made) && place(made) + SECTOR <= made);
        }
    }
}
