//! The content of frames: entries, hard states, marks and boot numbers, in a compact encoding.
//!
//! A batch is a sequence of items, each a tag byte and LEB128 numbers; they are applied in order.
//! Decoding never panics: a valid checksum does not prove that the bytes are well formed.

use bytes::Bytes;
use keelson_core::{ClusterId, Entry, EntryKind, HardState, Index, LastIncluded, MemberId, Term};

use super::Identity;

const TAG_COMMAND: u8 = 1;
const TAG_MEMBERSHIP: u8 = 2;
const TAG_HARD_STATE: u8 = 3;
const TAG_MARK_KEPT: u8 = 4;
const TAG_MARK_CLEARED: u8 = 5;
const TAG_BOOT: u8 = 6;

const MAGIC: &[u8; 8] = b"KEELWAL\0";
/// The format version that this program writes, and the newest that it reads. In version 2
/// (November 2026) frames show which of their sectors were written, and segments have their full
/// length from the beginning and record it. Format 1 is read; the log then continues in a new
/// segment.
pub(super) const VERSION: u32 = 2;

/// Whether a file that begins with these bytes is a segment of such a log, by its first frame.
pub(crate) fn is_segment(beginning: &[u8]) -> bool {
    let payload = beginning.get(super::frame_v1::HEADER_BYTES..);
    payload.is_some_and(|payload| payload.starts_with(MAGIC))
}

/// An item of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Entry(Entry),
    HardState(HardState),
    /// State replaces the log up to the mark; later entries stay only if `kept`.
    Mark {
        mark: LastIncluded,
        kept: bool,
    },
    Boot(u64),
}

/// Appends an entry to a batch.
pub(super) fn put_entry(batch: &mut Vec<u8>, entry: &Entry) {
    match entry.kind {
        EntryKind::Command => batch.push(TAG_COMMAND),
        EntryKind::Membership => batch.push(TAG_MEMBERSHIP),
    }
    put_number(batch, entry.term.0);
    put_number(batch, entry.index.0);
    put_bytes(batch, &entry.data);
    put_bytes(batch, &entry.context);
}

/// Appends a hard state to a batch.
pub(super) fn put_hard_state(batch: &mut Vec<u8>, state: &HardState) {
    batch.push(TAG_HARD_STATE);
    put_number(batch, state.term.0);
    put_number(batch, state.vote.0);
    put_number(batch, state.commit.0);
}

/// Appends a snapshot mark to a batch.
pub(super) fn put_mark(batch: &mut Vec<u8>, mark: LastIncluded, kept: bool) {
    batch.push(if kept {
        TAG_MARK_KEPT
    } else {
        TAG_MARK_CLEARED
    });
    put_number(batch, mark.index.0);
    put_number(batch, mark.term.0);
}

/// Appends the boot number of the member to a batch.
pub(super) fn put_boot(batch: &mut Vec<u8>, boot: u64) {
    batch.push(TAG_BOOT);
    put_number(batch, boot);
}

/// Decodes a batch into its items.
pub(super) fn decode(batch: &[u8]) -> Result<Vec<Item>, &'static str> {
    let mut rest = batch;
    let mut items = Vec::new();
    while let Some((tag, after)) = rest.split_first() {
        rest = after;
        items.push(item(*tag, &mut rest).ok_or("a batch that verifies does not decode")?);
    }
    Ok(items)
}

fn item(tag: u8, rest: &mut &[u8]) -> Option<Item> {
    match tag {
        TAG_COMMAND => entry(EntryKind::Command, rest),
        TAG_MEMBERSHIP => entry(EntryKind::Membership, rest),
        TAG_HARD_STATE => Some(Item::HardState(HardState {
            term: Term(number(rest)?),
            vote: MemberId(number(rest)?),
            commit: Index(number(rest)?),
        })),
        TAG_MARK_KEPT | TAG_MARK_CLEARED => Some(Item::Mark {
            mark: LastIncluded {
                index: Index(number(rest)?),
                term: Term(number(rest)?),
            },
            kept: tag == TAG_MARK_KEPT,
        }),
        TAG_BOOT => number(rest).map(Item::Boot),
        _ => None,
    }
}

fn entry(kind: EntryKind, rest: &mut &[u8]) -> Option<Item> {
    Some(Item::Entry(Entry {
        kind,
        term: Term(number(rest)?),
        index: Index(number(rest)?),
        data: take_bytes(rest)?,
        context: take_bytes(rest)?,
    }))
}

/// The content of a segment's first frame: the identity, and everything that older segments hold
/// apart from entries, so that those can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) identity: Identity,
    /// The format of the following frames.
    pub(super) version: u32,
    pub(super) sequence: u64,
    pub(super) boot: u64,
    pub(super) hard_state: HardState,
    pub(super) mark: LastIncluded,
    /// The length of the file, which was durable before it had its name; 0 in format 1, which
    /// does not record it. Frames never exceed it.
    pub(super) made_bytes: u64,
}

/// Why a segment's first frame is not a header.
pub(super) enum BadHeader {
    Malformed,
    Version(u32),
}

impl SegmentHeader {
    /// The size of the encoding, in bytes.
    pub(super) const BYTES: usize = 12 + 10 * 8;
    const BYTES_V1: usize = 12 + 9 * 8;

    /// Encodes the header in the present format.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(SegmentHeader::BYTES);
        payload.extend_from_slice(MAGIC);
        payload.extend_from_slice(&VERSION.to_le_bytes());
        for number in [
            self.identity.cluster.0,
            self.identity.member.0,
            self.sequence,
            self.boot,
            self.hard_state.term.0,
            self.hard_state.vote.0,
            self.hard_state.commit.0,
            self.mark.index.0,
            self.mark.term.0,
            self.made_bytes,
        ] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        payload
    }

    pub(super) fn decode(payload: &[u8]) -> Result<SegmentHeader, BadHeader> {
        let rest = payload.strip_prefix(MAGIC).ok_or(BadHeader::Malformed)?;
        let (version, rest) = rest.split_first_chunk().ok_or(BadHeader::Malformed)?;
        let version = u32::from_le_bytes(*version);
        let expected = match version {
            1 => SegmentHeader::BYTES_V1,
            VERSION => SegmentHeader::BYTES,
            _ => return Err(BadHeader::Version(version)),
        };
        let mut numbers = [0; 10];
        for (number, bytes) in numbers.iter_mut().zip(rest.chunks(8)) {
            let bytes = bytes.first_chunk().ok_or(BadHeader::Malformed)?;
            *number = u64::from_le_bytes(*bytes);
        }
        let [
            cluster,
            member,
            sequence,
            boot,
            term,
            vote,
            commit,
            mark_index,
            mark_term,
            made_bytes,
        ] = numbers;
        match payload.len() == expected {
            false => Err(BadHeader::Malformed),
            true => Ok(SegmentHeader {
                identity: Identity {
                    cluster: ClusterId(cluster),
                    member: MemberId(member),
                },
                version,
                sequence,
                boot,
                made_bytes,
                hard_state: HardState {
                    term: Term(term),
                    vote: MemberId(vote),
                    commit: Index(commit),
                },
                mark: LastIncluded {
                    index: Index(mark_index),
                    term: Term(mark_term),
                },
            }),
        }
    }
}

fn put_number(batch: &mut Vec<u8>, mut number: u64) {
    while 0x7f < number {
        batch.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    batch.push(number.to_le_bytes()[0]);
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_bytes(batch: &mut Vec<u8>, bytes: &[u8]) {
    put_number(batch, bytes.len() as u64);
    batch.extend_from_slice(bytes);
}

fn take_bytes(rest: &mut &[u8]) -> Option<Bytes> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Bytes::copy_from_slice(bytes))
}
