//! A directory is whole, in use, or damaged, and is never changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use keelson_proto::etcdserverpb::PutRequest;

use super::*;
use crate::config::StorageEngine;
use crate::{Config, Store};

fn config(data: &Path, engine: StorageEngine) -> Config {
    Config {
        storage_engine: engine,
        ..Config::single("one", data)
    }
}

/// A stopped member's directory.
async fn stopped(dir: &Path, engine: StorageEngine) -> PathBuf {
    let data = dir.join(engine.name());
    let store = Store::open(config(&data, engine)).await.unwrap();
    store.ready().await;
    for number in 0..50 {
        let put = PutRequest {
            key: format!("k{number}").into(),
            value: vec![1; 3000].into(),
            ..PutRequest::default()
        };
        store.put(put).await.unwrap();
    }
    let used = check_directory(&data, None, &mut || panic!("nothing is copied"));
    assert!(matches!(used, Err(CheckError::InUse(_))), "{used:?}");
    store.shutdown().await;
    data
}

/// Every file below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            match entry.path().is_dir() {
                true => waiting.push(entry.path()),
                false => {
                    found.insert(entry.path(), fs::read(entry.path()).unwrap());
                }
            }
        }
    }
    found
}

fn checked(data: &Path) -> CheckReport {
    let scratch = tempfile::tempdir().unwrap();
    check_directory(data, None, &mut || Ok(scratch.path().to_owned())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_members_directory_is_whole_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for engine in [StorageEngine::Lmdb, StorageEngine::Sled] {
        let data = stopped(dir.path(), engine).await;
        let before = files(&data);
        let report = checked(&data);
        assert_eq!(report.damaged, [""; 0], "{engine:?}: {report:?}");
        let text = report.found.join("\n");
        // No other flush follows one that is under way at the stop: what was applied after that
        // one began is in the log alone. On a slow machine that is much.
        let of = |keys: u64| format!("state: {keys} keys at revision {},", keys + 1);
        assert!((0..=50).any(|keys| text.contains(&of(keys))), "{text}");
        assert!(before == files(&data), "{engine:?}: it was changed");
        // Nothing that was acknowledged is lost: a start applies it.
        let store = Store::open(config(&data, engine)).await.unwrap();
        store.ready().await;
        assert_eq!(store.revision(), 51, "{engine:?}");
        store.shutdown().await;
    }
    let nothing = check_directory(&dir.path().join("none"), None, &mut unused);
    assert!(matches!(nothing, Err(CheckError::Nothing(_))));
}

fn unused() -> io::Result<PathBuf> {
    panic!("nothing is copied")
}

/// A full or read-only temporary directory was called damage of the member.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_made_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let data = stopped(dir.path(), StorageEngine::Sled).await;
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let below = || Ok(file.join("below"));
    let full = || Err(io::ErrorKind::StorageFull.into());
    let scratches: [Scratch<'_>; 2] = [&mut { below }, &mut { full }];
    for scratch in scratches {
        let report = check_directory(&data, None, scratch).unwrap();
        assert_eq!(report.damaged, [""; 0], "{report:?}");
        assert_eq!(report.unchecked.len(), 1, "{report:?}");
        assert!(report.unchecked[0].starts_with("sled: it needs a copy"));
    }
    // LMDB needs none.
    let data = stopped(dir.path(), StorageEngine::Lmdb).await;
    let report = check_directory(&data, None, &mut unused).unwrap();
    assert_eq!(report.unchecked, [""; 0], "{report:?}");
}

#[test]
fn a_data_directory_of_etcd_is_called_that() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("member/wal");
    fs::create_dir_all(&wal).unwrap();
    let record = [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0];
    fs::write(wal.join("0000000000000000-0000000000000000.wal"), record).unwrap();
    let refused = check_directory(dir.path(), None, &mut unused).unwrap_err();
    assert!(matches!(refused, CheckError::Etcds(_)), "{refused}");
    assert!(
        refused.to_string().contains("`keelson import "),
        "{refused}"
    );
}

/// Changes bytes of a file.
fn damage(path: &Path, at: impl Iterator<Item = usize>) {
    let mut bytes = fs::read(path).unwrap();
    at.for_each(|at| bytes[at] ^= 0xff);
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = stopped(dir.path(), StorageEngine::Lmdb).await;
    let paths: Vec<_> = files(&data).into_keys().collect();
    let of = |end: &str| {
        let found = paths
            .iter()
            .find(|path| path.to_string_lossy().ends_with(end));
        found.expect("a file").clone()
    };
    let (engine, log) = (of("data.mdb"), of(".wal"));
    let pages = fs::metadata(&engine).unwrap().len() as usize / 4096;
    // The first two pages name the others.
    damage(&engine, (2..pages).map(|page| page * 4096));
    let report = checked(&data);
    let first = &report.damaged[0];
    assert!(
        first.starts_with("lmdb: ") && first.contains("page "),
        "{report:?}"
    );
    damage(&log, std::iter::once(5000));
    let report = checked(&data);
    assert!(report.damaged[0].starts_with("log: "), "{report:?}");
}

#[test]
fn a_file_that_is_no_snapshot_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    assert!(matches!(check_file(&path), Err(CheckError::Io { .. })));
    fs::write(&path, vec![7; 9000]).unwrap();
    let report = check_file(&path).unwrap();
    assert_eq!(report.damaged.len(), 1, "{report:?}");
}
