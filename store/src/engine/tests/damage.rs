//! Damaged files and foreign directories: an error with the remedy, never a crash.

use keelson_core::engine::{Table, WriteBatch};

use super::*;
use crate::disk::DiskFile;

fn written(kind: StorageEngine, dir: &Path) {
    let engine = open_in(kind, dir);
    let mut batch = WriteBatch::default();
    for number in 0..2000u64 {
        batch.put(Table::Key, number.to_be_bytes().to_vec(), vec![7; 200]);
    }
    batch.put(Table::Meta, "big", vec![9; 100_000]);
    engine.write(&batch).unwrap();
}

fn copy_of(path: &Path, length: usize) -> tempfile::TempDir {
    let bytes = std::fs::read(path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(path.file_name().unwrap()), &bytes[..length]).unwrap();
    dir
}

fn refusal(kind: StorageEngine, dir: &Path) -> String {
    open(kind, dir, MAP_BYTES)
        .err()
        .expect("a refusal")
        .to_string()
}

#[test]
fn a_truncated_lmdb_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(StorageEngine::Lmdb, dir.path());
    let path = dir.path().join(LMDB_FILE);
    let size = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    for length in [
        0,
        100,
        4096,
        5000,
        8192,
        12288,
        size / 2,
        size - 4096,
        size - 1,
    ] {
        let cut = copy_of(&path, length);
        let text = refusal(StorageEngine::Lmdb, cut.path());
        assert!(
            text.contains("damaged") && text.contains("move"),
            "{length}: {text}"
        );
    }
    let whole = copy_of(&path, size);
    assert!(open(StorageEngine::Lmdb, whole.path(), MAP_BYTES).is_ok());
}

#[test]
fn a_damaged_lmdb_meta_page_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(StorageEngine::Lmdb, dir.path());
    let path = dir.path().join(LMDB_FILE);
    for offset in [16, 20, 4096 + 16] {
        let damaged = copy_of(
            &path,
            usize::try_from(path.metadata().unwrap().len()).unwrap(),
        );
        let file = RealDisk.open(&damaged.path().join(LMDB_FILE)).unwrap();
        file.write_at(offset, &[0x55]).unwrap();
        assert!(refusal(StorageEngine::Lmdb, damaged.path()).contains("no LMDB meta page"));
    }
}

#[test]
fn a_damaged_sled_page_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    written(StorageEngine::Sled, dir.path());
    let file = RealDisk.open(&dir.path().join(SLED_FILE)).unwrap();
    let size = file.size_bytes().unwrap();
    file.write_at(0, &vec![0x55; usize::try_from(size).unwrap()])
        .unwrap();
    match open(StorageEngine::Sled, dir.path(), MAP_BYTES) {
        Err(error) => assert!(error.to_string().contains("move"), "{error}"),
        Ok(engine) => assert_eq!(engine.get(Table::Meta, b"big").unwrap(), None),
    }
}

#[test]
fn a_damaged_sled_snapshot_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    written(StorageEngine::Sled, dir.path());
    for name in RealDisk.list(dir.path()).unwrap() {
        if name.starts_with("snap.") {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
    }
    let engine = open_in(StorageEngine::Sled, dir.path());
    assert_eq!(
        engine.get(Table::Meta, b"big").unwrap().unwrap().len(),
        100_000
    );
}

#[test]
fn another_engines_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(StorageEngine::Lmdb, dir.path());
    assert!(refusal(StorageEngine::Sled, dir.path()).contains("was written by engine lmdb"));
    let dir = tempfile::tempdir().unwrap();
    written(StorageEngine::Sled, dir.path());
    assert!(refusal(StorageEngine::Lmdb, dir.path()).contains("--storage-engine=sled"));
}

#[test]
fn a_full_map_is_an_error_and_leaves_the_rows_that_were() {
    let dir = tempfile::tempdir().unwrap();
    let engine = LmdbEngine::open_with_map(dir.path(), 2 << 20).unwrap();
    let batch = |number: u64| {
        let mut batch = WriteBatch::default();
        for row in 0..50 {
            batch.put(
                Table::Key,
                (number * 50 + row).to_be_bytes().to_vec(),
                vec![1; 1000],
            );
        }
        batch
    };
    let refused = (0..100).find_map(|number| Some((number, engine.write(&batch(number)).err()?)));
    let (number, error) = refused.expect("2 MiB are soon full");
    assert!(
        error.to_string().contains("--quota-backend-bytes"),
        "{error}"
    );
    let last = (number * 50 - 1).to_be_bytes();
    assert!(engine.get(Table::Key, &last).unwrap().is_some());
    assert_eq!(
        engine
            .get(Table::Key, &(number * 50).to_be_bytes())
            .unwrap(),
        None
    );
}
