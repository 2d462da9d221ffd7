//! The last frame of the log: the states that a crash may leave open; any other change of it is
//! refused, since the frame was acknowledged.

use std::path::PathBuf;

use super::damage::refused;
use super::*;
use crate::disk::sim::SECTOR_BYTES;
use crate::disk::{Disk, DiskFile};

/// A log of one segment, before and after its last frame.
struct Last {
    disk: SimDisk,
    path: PathBuf,
    /// The segment without the last frame, and with it.
    before: Vec<u8>,
    after: Vec<u8>,
    /// The content of the log without the last frame, and with it.
    models: [Model; 2],
}

impl Last {
    /// Writes `frames` small frames, and then one of `bytes` bytes of `fill`. `at_rest` writes a
    /// watermark afterwards.
    fn new(frames: u8, bytes: usize, fill: u8, at_rest: bool) -> Last {
        Last::behind(&vec![2; frames.into()], bytes, fill, at_rest)
    }

    /// As [`Last::new`], after frames of those sizes.
    fn behind(sizes: &[u8], bytes: usize, fill: u8, at_rest: bool) -> Last {
        let mut run = Run::new(SimDisk::new());
        run.step(Step::Reopen).unwrap();
        for size in sizes {
            run.step(Step::Append(1, *size)).unwrap();
            run.step(Step::Sync).unwrap();
        }
        let names = run.disk.list(Path::new(DIR)).unwrap();
        let name = names.iter().find(|name| name.ends_with(".wal")).unwrap();
        let path = Path::new(DIR).join(name);
        let before = run.disk.bytes(&path).unwrap();
        let entry = Entry {
            index: Index(run.model.last() + 1),
            term: Term(1),
            kind: EntryKind::Command,
            data: Bytes::from(vec![fill; bytes]),
            context: Bytes::new(),
        };
        let wal = run.wal.as_mut().unwrap();
        let entries = vec![entry];
        wal.append(None, &entries, None).unwrap();
        wal.sync().unwrap();
        if at_rest {
            wal.note_end().unwrap();
        }
        let without = run.model.clone();
        run.model.append(&Batch {
            entries,
            ..Batch::default()
        });
        run.wal = None;
        Last {
            after: run.disk.bytes(&path).unwrap(),
            path,
            before,
            models: [without, run.model],
            disk: run.disk,
        }
    }

    /// The range in which the two segments differ, except for the watermark.
    fn frame(&self) -> std::ops::Range<usize> {
        let differs = |at: &usize| self.before[*at] != self.after[*at];
        let frames = 0..self.after.len() - SECTOR_BYTES;
        let first = frames.clone().find(differs).unwrap();
        let last = frames.rev().find(differs).unwrap();
        first..last + 1
    }

    fn disk(&self, segment: &[u8]) -> SimDisk {
        let disk = self.disk.fork();
        let file = disk.open(&self.path).unwrap();
        file.write_at(0, segment).unwrap();
        file.sync_data().unwrap();
        disk.kill();
        disk
    }

    /// Opens a state that a crash may leave, and continues to write.
    fn opens(&self, segment: &[u8], what: &str) {
        let disk = self.disk(segment);
        let (mut wal, recovered) = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = Model::of(&recovered);
        assert!(self.models.contains(&found), "{what}");
        let batch = Step::Append(2, 255).batch(&found);
        wal.append(None, &batch.entries, None).unwrap();
        wal.sync().unwrap();
        drop(wal);
        disk.crash(&mut |_| 0);
        let (_, recovered) = open(&disk).unwrap_or_else(|error| panic!("{what}, again: {error}"));
        assert_eq!(recovered.entries.last(), batch.entries.last(), "{what}");
    }

    /// Whether the damage is refused; otherwise it must be in bytes that are not read.
    fn refuses(&self, segment: &[u8], what: &str) -> bool {
        match open(&self.disk(segment)) {
            Err(error) => {
                assert!(refused(&error), "{what}: {error}");
                true
            }
            Ok((_, recovered)) => {
                assert_eq!(Model::of(&recovered), self.models[1], "{what}");
                false
            }
        }
    }
}

/// Last frames shorter and longer than a sector, and frames of zeros, at several sector offsets.
fn last_frames() -> Vec<Last> {
    last_frames_of(false)
}

fn last_frames_of(at_rest: bool) -> Vec<Last> {
    let mut lasts = Vec::new();
    for (frames, bytes, fill) in [(1, 30, 7), (2, 400, 0), (0, 1300, 0), (3, 1700, 0x5a)] {
        lasts.push(Last::new(frames, bytes, fill, at_rest));
    }
    lasts
}

#[test]
fn a_flipped_bit_in_the_last_frame_is_refused_and_not_repaired() {
    let (mut refusals, mut harmless) = (0, 0);
    for last in last_frames() {
        let mut segment = last.after.clone();
        for at in last.frame() {
            for bit in 0..8 {
                segment[at] ^= 1 << bit;
                match last.refuses(&segment, &format!("bit {bit} of byte {at}")) {
                    true => refusals += 1,
                    false => harmless += 1,
                }
                segment[at] ^= 1 << bit;
            }
        }
    }
    println!("log: {refusals} flips in last frames refused, {harmless} in unused bytes");
    // Only the bytes at sector boundaries, the padding and the trailer are harmless.
    assert!(harmless * 20 < refusals);
}

#[test]
fn a_byte_of_the_last_frame_that_becomes_another_is_refused() {
    let mut like_a_tear = 0;
    for last in last_frames() {
        let mut segment = last.after.clone();
        let frame = last.frame();
        for at in frame.clone() {
            for value in [0, 0xff, 0x55, segment[at].wrapping_add(1)] {
                let old = std::mem::replace(&mut segment[at], value);
                let ends_a_sector = at % SECTOR_BYTES == 0
                    || (at + 1) % SECTOR_BYTES == 0
                    || at == frame.start
                    || at + 1 == frame.end;
                if value == 0 && old != 0 && ends_a_sector {
                    like_a_tear += 1;
                    last.opens(&segment, &format!("byte {at} was not written"));
                } else {
                    last.refuses(&segment, &format!("byte {at} became {value}"));
                }
                segment[at] = old;
            }
        }
    }
    println!("log: {like_a_tear} bytes whose loss looks like a torn write");
}

/// Zeroed boundary bytes, zeroed sectors and a zeroed frame look as if they were never written.
#[test]
fn a_last_frame_that_decays_to_zeros_is_refused_once_the_log_was_at_rest() {
    let mut refusals = 0;
    for last in last_frames_of(true) {
        let frame = last.frame();
        last.opens(&last.after, "as it was");
        let mut refuses = |range: std::ops::Range<usize>| {
            let mut segment = last.after.clone();
            segment[range.clone()].fill(0);
            refusals += u32::from(last.refuses(&segment, &format!("{range:?} became zeros")));
        };
        frame.clone().for_each(|at| refuses(at..at + 1));
        for sector in (0..frame.end).step_by(SECTOR_BYTES) {
            let to = sector + SECTOR_BYTES;
            refuses(sector.max(frame.start).min(to)..to);
        }
        refuses(frame.clone());
    }
    assert!(1000 < refusals, "{refusals}");
}

/// All frames from that sector on were cut off. Only the last can be unfinished, but a sector
/// holds several.
#[test]
fn a_lost_sector_of_several_frames_is_refused_where_the_last_goes_on_behind_it() {
    let mut refusals = 0;
    for first in (1..=255).step_by(2) {
        let sizes = [first, 1, 1, 1, 1, 1];
        let last = Last::behind(&sizes, 700, 7, false);
        let end = last.frame().end - 1;
        for from in (SECTOR_BYTES..end / SECTOR_BYTES * SECTOR_BYTES).step_by(SECTOR_BYTES) {
            let mut segment = last.after.clone();
            segment[from..from + SECTOR_BYTES].fill(0);
            match open(&last.disk(&segment)) {
                Err(error) => {
                    assert!(refused(&error), "{error}");
                    refusals += 1;
                }
                Ok((_, recovered)) => {
                    let found = Model::of(&recovered);
                    let lost = last.models[1].last() - found.last();
                    assert!(lost < 2, "{sizes:?}: {lost} entries are gone");
                }
            }
        }
    }
    assert!(10 < refusals, "{refusals}");
}

#[test]
fn a_last_segment_shorter_than_it_was_made_is_refused() {
    for last in last_frames() {
        for length in 0..last.after.len() {
            let disk = last.disk(&last.after);
            disk.truncate(&last.path, u64::try_from(length).unwrap());
            let error = open(&disk).err().expect("it is shorter than it was made");
            assert!(refused(&error), "{length}: {error}");
        }
    }
}

#[test]
fn a_sector_of_other_bytes_in_the_last_frame_is_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for last in last_frames() {
        let frame = last.frame();
        for first in (0..last.after.len()).step_by(SECTOR_BYTES) {
            let sector = first.max(frame.start)..(first + SECTOR_BYTES).min(frame.end);
            for _ in 0..64 {
                let mut segment = last.after.clone();
                let bytes = segment.get_mut(sector.clone()).unwrap_or_default();
                bytes.fill_with(|| rng.random_range(1..=255));
                assert!(bytes.is_empty() || last.refuses(&segment, "a sector of noise"));
            }
        }
    }
}

#[test]
fn every_tear_of_the_last_frame_opens() {
    for last in last_frames() {
        let frame = last.frame();
        let first = frame.start - frame.start % SECTOR_BYTES;
        for sector in (first..frame.end).step_by(SECTOR_BYTES) {
            for base in [&last.before, &last.after] {
                for cut in 0..=SECTOR_BYTES {
                    let (begin, middle, end) = (sector, sector + cut, sector + SECTOR_BYTES);
                    let mut state = base.clone();
                    state[begin..middle].copy_from_slice(&last.after[begin..middle]);
                    state[middle..end].copy_from_slice(&last.before[middle..end]);
                    last.opens(&state, &format!("written up to {middle}"));
                    state[begin..middle].copy_from_slice(&last.before[begin..middle]);
                    state[middle..end].copy_from_slice(&last.after[middle..end]);
                    last.opens(&state, &format!("written from {middle} on"));
                }
            }
        }
    }
}

#[test]
fn every_choice_of_sectors_of_the_last_frame_opens() {
    for last in last_frames() {
        let frame = last.frame();
        let first = frame.start - frame.start % SECTOR_BYTES;
        let sectors = (frame.end - first).div_ceil(SECTOR_BYTES);
        for choice in 0..1u32 << sectors {
            let mut state = last.before.clone();
            for sector in (0..sectors).filter(|sector| choice >> sector & 1 == 1) {
                let from = first + sector * SECTOR_BYTES;
                let range = from..from + SECTOR_BYTES;
                state[range.clone()].copy_from_slice(&last.after[range]);
            }
            last.opens(&state, &format!("sectors {choice:b}"));
        }
    }
}

#[test]
fn a_shortage_of_descriptors_does_not_end_the_log() {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    run.disk.refuse_descriptors(5);
    for _ in 0..30 {
        run.step(Step::Append(3, 100)).unwrap();
        run.step(Step::Sync).unwrap();
    }
    run.step(Step::Reopen).unwrap();
}
