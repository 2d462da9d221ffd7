//! Flipped bits, and files that shrink or vanish: the log refuses to open.

use std::path::PathBuf;

use super::*;
use crate::disk::Disk;

/// A log of several segments, and all models that it ever matched, oldest first.
fn several_segments() -> (SimDisk, Vec<Model>, Vec<PathBuf>) {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    let sizes = [100, 33, 255, 7, 100, 100, 180, 91];
    for size in sizes.iter().cycle().take(40) {
        run.step(Step::Append(2, *size)).unwrap();
        run.step(Step::Sync).unwrap();
    }
    run.wal = None;
    let names = run.disk.list(Path::new(DIR)).unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".wal"));
    let paths: Vec<PathBuf> = segments.map(|name| Path::new(DIR).join(name)).collect();
    assert!(4 <= paths.len());
    let models = run.promised.into_iter().map(|(_, model)| model).collect();
    (run.disk, models, paths)
}

pub(super) fn refused(error: &WalError) -> bool {
    let text = error.to_string();
    match error {
        WalError::Damaged { .. } => text.contains("remove the member") && text.contains(".wal"),
        WalError::WrongIdentity { .. } | WalError::UnknownVersion { .. } => true,
        _ => false,
    }
}

#[test]
fn a_flipped_bit_in_a_middle_segment_is_never_served() {
    let (disk, models, paths) = several_segments();
    let size = disk.bytes(&paths[1]).unwrap().len() as u64;
    let (mut found, mut harmless) = (0, 0);
    for offset in 0..size {
        let damaged = disk.fork();
        damaged.flip(&paths[1], offset, 1 << (offset % 8));
        match open(&damaged) {
            Err(error) => {
                found += 1;
                assert!(refused(&error), "{error}");
            }
            // The bit is in padding, or after the last frame.
            Ok((_, recovered)) => {
                harmless += 1;
                assert_eq!(Some(&Model::of(&recovered)), models.last());
            }
        }
    }
    println!("log: {found} flipped bits refused, {harmless} in unused bytes");
    assert!(harmless < found);
}

#[test]
fn a_middle_segment_cut_short_is_refused() {
    let (disk, models, paths) = several_segments();
    let size = disk.bytes(&paths[2]).unwrap().len() as u64;
    let mut found = 0;
    for length in (0..size).step_by(7) {
        let damaged = disk.fork();
        damaged.truncate(&paths[2], length);
        match open(&damaged) {
            Err(error) => {
                found += 1;
                assert!(refused(&error), "{error}");
            }
            Ok((_, recovered)) => assert_eq!(Some(&Model::of(&recovered)), models.last()),
        }
    }
    assert!(400 < found);
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, _, paths) = several_segments();
    for path in &paths {
        let damaged = disk.fork();
        damaged.remove(path).unwrap();
        let error = open(&damaged).err().expect("a segment is missing");
        let missing = matches!(error, WalError::MissingSegment { .. });
        assert!(missing || refused(&error), "{error}");
    }
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let (disk, _, paths) = several_segments();
    let first = disk.bytes(&paths[0]).unwrap();
    let file = crate::disk::Disk::open(&disk, &paths[1]).unwrap();
    crate::disk::DiskFile::write_at(&file, 0, &first).unwrap();
    assert!(refused(
        &open(&disk).err().expect("not the segment it is called")
    ));
}

#[test]
fn any_bytes_at_all_are_survived() {
    let (disk, models, paths) = several_segments();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..500 {
        let damaged = disk.fork();
        let path = &paths[rng.random_range(0..paths.len())];
        let size = damaged.bytes(path).unwrap().len() as u64;
        for _ in 0..rng.random_range(1..40) {
            damaged.flip(path, rng.random_range(0..size), rng.random());
        }
        if let Ok((_, recovered)) = open(&damaged) {
            assert!(models.contains(&Model::of(&recovered)));
        }
    }
}
