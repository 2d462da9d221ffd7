//! Logs of format 1 open and continue in a segment of the present format; newer formats are
//! refused.

use super::*;
use crate::disk::{Disk, DiskFile};
use crate::wal::item::{self, SegmentHeader};
use crate::wal::{frame, frame_v1};

/// A segment of format 1, or with another version in its header, with one frame for each entry.
fn write(version: u32, entries: &[Entry]) -> (SimDisk, std::path::PathBuf) {
    let disk = SimDisk::new();
    crate::disk::create_dir_durably(&disk, Path::new(DIR)).unwrap();
    let header = SegmentHeader {
        identity: IDENTITY,
        version,
        sequence: 1,
        boot: 4,
        hard_state: HardState::default(),
        mark: LastIncluded::default(),
        made_bytes: 0,
    };
    let mut payload = header.encode();
    payload[8..12].copy_from_slice(&version.to_le_bytes());
    payload.truncate(12 + 9 * 8);
    let seed = frame_v1::SEGMENT_SEED;
    let (mut bytes, mut crc) = frame_v1::seal(&payload, seed, frame_v1::KIND_SEGMENT, 0, 0);
    let seed = frame::seed(IDENTITY, 1);
    for entry in entries {
        let mut batch = Vec::new();
        item::put_entry(&mut batch, entry);
        let offset = bytes.len() as u64;
        let (next, sealed) = frame_v1::seal(&batch, seed, frame_v1::KIND_BATCH, offset, crc);
        bytes.extend_from_slice(&next);
        crc = sealed;
    }
    let path = Path::new(DIR).join("0000000000000001-0000000000000001.wal");
    let file = disk.create(&path).unwrap();
    file.write_at(0, &bytes).unwrap();
    file.write_at(4095, &[0]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    (disk, path)
}

#[test]
fn a_log_of_format_1_opens_and_goes_on_in_a_new_segment() {
    let written = entries(1, 9, 1, 2);
    let (disk, path) = write(1, &written);
    let old = disk.bytes(&path).unwrap();
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries, written);
    assert_eq!((recovered.boot, recovered.repaired), (5, None));
    let more = entries(10, 1, 1, 2);
    wal.append(None, &more, None).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(disk.bytes(&path).unwrap(), old);
    disk.crash(&mut |_| 0);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries, [written, more].concat());
}

#[test]
fn a_crash_while_a_log_of_format_1_is_taken_over_is_survived() {
    let written = entries(1, 9, 1, 2);
    let (disk, _) = write(1, &written);
    disk.record();
    open(&disk).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for moment in disk.moments() {
        for _ in 0..20 {
            let disk = moment.disk.fork();
            disk.crash(&mut |n| rng.random_range(0..n));
            let (_, recovered) = open(&disk).unwrap();
            assert_eq!(recovered.entries, written);
        }
    }
}

#[test]
fn a_newer_format_is_named() {
    let (disk, _) = write(3, &[]);
    let error = open(&disk).err().expect("it is newer").to_string();
    assert!(error.contains("format version 3, newer"), "{error}");
}
