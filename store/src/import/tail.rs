//! The end of what is read of a log: a write that a crash cut off, or damage.
//!
//! As etcd does, a log ends at a record that its last segment does not have whole. But records that
//! follow a damaged length were durable, and are no end.

use std::io;
use std::path::PathBuf;

use prost::Message;

use super::log::STATE;
use super::messages::{Record, StoredHardState};
use crate::disk::ReadOnlyFile;

/// Bytes that are read at a time.
const STEP_BYTES: u64 = 1 << 20;
/// Bytes behind a damaged length, or behind an end, that are searched: the size of etcd's segments.
const SEARCH_BYTES: u64 = 64 << 20;

/// What the last segment of a log has behind its last whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The segment.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// Its size, without the zeros at the end.
    pub bytes: u64,
}

/// The bytes of a file from an offset to the last one that is not zero.
pub(super) fn written_bytes(file: &ReadOnlyFile, begin: u64) -> io::Result<u64> {
    let mut step = vec![0; STEP_BYTES as usize];
    let mut end = file.size_bytes()?.max(begin);
    while begin < end {
        let at = end.saturating_sub(STEP_BYTES).max(begin);
        let step = &mut step[..(end - at) as usize];
        file.read_exact_at(at, step)?;
        if let Some(last) = step.iter().rposition(|byte| *byte != 0) {
            return Ok(at + last as u64 + 1 - begin);
        }
        end = at;
    }
    Ok(0)
}

/// Whether whole records are in what a length counts as one of `counted` bytes that is not whole.
/// `sum` is the checksum of those before.
pub(super) fn holds_records(
    file: &ReadOnlyFile,
    (begin, end): (u64, u64),
    counted: u64,
    sum: u32,
) -> io::Result<bool> {
    let end = end.min(begin.saturating_add(SEARCH_BYTES));
    let written = written_bytes(file, begin)?.min(end.saturating_sub(begin));
    let mut bytes = vec![0; written as usize];
    file.read_exact_at(begin, &mut bytes)?;
    // The first one is whole, and its length alone is wrong.
    let first = unframed(&bytes).is_some_and(|(crc, data, record_bytes)| {
        record_bytes as u64 != counted && crc32c::crc32c_append(sum, data) == crc
    });
    Ok(first || (0..bytes.len()).any(|at| begins_chain(&bytes[at..])))
}

/// The highest commit of the hard states behind an end of the log, in records that continue each
/// other's checksums; 0 if there is none.
pub(super) fn commit_behind(file: &ReadOnlyFile, begin: u64) -> io::Result<u64> {
    let written = written_bytes(file, begin)?.min(SEARCH_BYTES);
    let mut bytes = vec![0; written as usize];
    file.read_exact_at(begin, &mut bytes)?;
    let (mut rest, mut highest) = (&bytes[..], 0);
    while !rest.is_empty() {
        if begins_chain(rest) {
            let (commit, behind) = commit_of_chain(rest);
            (rest, highest) = (behind, commit.max(highest));
        } else {
            rest = &rest[1..];
        }
    }
    Ok(highest)
}

/// The highest commit of the records that continue the checksum of the one that stands here, and
/// what follows them.
fn commit_of_chain(bytes: &[u8]) -> (u64, &[u8]) {
    let (mut highest, mut sum, mut rest) = (0, None, bytes);
    while let Some((record, behind)) = framed(rest) {
        let data = record.data.unwrap_or_default();
        if let Some(sum) = sum {
            if crc32c::crc32c_append(sum, &data) != record.crc {
                break;
            }
            if record.kind == STATE
                && let Ok(state) = StoredHardState::decode(data)
            {
                highest = state.commit.max(highest);
            }
        }
        (sum, rest) = (Some(record.crc), behind);
    }
    (highest, rest)
}

/// Whether two records stand here, of which the second continues the checksum of the first.
fn begins_chain(bytes: &[u8]) -> bool {
    let Some((first, rest)) = framed(bytes) else {
        return false;
    };
    let Some((second, _)) = framed(rest) else {
        return false;
    };
    let data = second.data.unwrap_or_default();
    !data.is_empty() && crc32c::crc32c_append(first.crc, &data) == second.crc
}

/// A record in its frame, and what follows.
fn framed(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    let (record_bytes, padding) = frame(u64::from_le_bytes(*word))?;
    let record_bytes = usize::try_from(record_bytes).ok()?;
    if record_bytes == 0 || rest.len() < record_bytes {
        return None;
    }
    let (record, rest) = rest.split_at(record_bytes);
    // The number of its kind comes first.
    if record[0] != 8 {
        return None;
    }
    let record = Record::decode(record).ok()?;
    Some((record, rest.get(padding as usize..).unwrap_or_default()))
}

/// The checksum and the data of a record whose length is not known, and its length. etcd writes
/// the fields in order.
fn unframed(bytes: &[u8]) -> Option<(u32, &[u8], usize)> {
    let mut rest = bytes;
    let mut field = |key: u8| -> Option<u64> {
        rest = rest.strip_prefix(&[key])?;
        prost::encoding::decode_varint(&mut rest).ok()
    };
    field(0x08)?;
    let (crc, data_bytes) = (field(0x10)?, field(0x1a)?);
    let data = rest.get(..usize::try_from(data_bytes).ok()?)?;
    let record_bytes = bytes.len() - rest.len() + data.len();
    Some((u32::try_from(crc).ok()?, data, record_bytes))
}

/// The bytes of a frame's record, and of the padding behind it, which rounds them up to a multiple
/// of eight; an early etcd has none. `None` if they do not fit together.
pub(super) fn frame(word: u64) -> Option<(u64, u64)> {
    let (bytes, padding) = (word & (u64::MAX >> 8), word >> 56 & 7);
    let fits = match word >> 63 {
        1 => (bytes + padding).is_multiple_of(8),
        _ => padding == 0,
    };
    fits.then_some((bytes, padding))
}
