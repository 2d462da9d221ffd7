//! A defragmented engine has the rows that it had, also after a crash in each of its steps.

use std::ops::Bound;

use keelson_core::engine::{Table, WriteBatch};
use keelson_core::{Index, LastIncluded, Term};

use super::*;
use crate::Config;
use crate::engine::StorageEngine;

const OPTIONS: EngineOptions = EngineOptions {
    kind: StorageEngine::Lmdb,
    map_bytes: 1 << 30,
};

const BEGAN: LastIncluded = LastIncluded {
    index: Index(7),
    term: Term(3),
};

/// Rows of 1 KB, from `first` on.
fn batch(first: u64, count: u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for number in first..first + count {
        batch.put(Table::Key, number.to_be_bytes().to_vec(), vec![7; 1000]);
    }
    batch
}

/// An engine of which most is deleted.
fn fragmented(dir: &Path) -> (Generations<RealDisk>, Arc<dyn Engine>) {
    let mut generations = Generations::open(Arc::new(RealDisk), dir).unwrap();
    let first = generations.begin().unwrap();
    let engine = engine::open(OPTIONS.kind, &first.dir, OPTIONS.map_bytes).unwrap();
    engine.write(&batch(0, 5000)).unwrap();
    let mut deletion = WriteBatch::default();
    for number in 100..5000u64 {
        deletion.delete(Table::Key, number.to_be_bytes().to_vec());
    }
    engine.write(&deletion).unwrap();
    generations.switch(&first, BEGAN).unwrap();
    (generations, engine)
}

fn keys(engine: &dyn Engine) -> Vec<u64> {
    let mut keys = Vec::new();
    let mut note = |key: &[u8], value: &[u8]| {
        assert_eq!(value.len(), 1000);
        keys.push(u64::from_be_bytes(*key.first_chunk().unwrap()));
        true
    };
    let all = Bound::Unbounded;
    engine.range(Table::Key, all, all, &mut note).unwrap();
    keys
}

fn plenty(_: &Path) -> std::io::Result<u64> {
    Ok(u64::MAX)
}

/// The keys that a start finds. Of the generations only the current one is left.
fn reopened(dir: &Path) -> Vec<u64> {
    let generations = Generations::open(Arc::new(RealDisk), dir).unwrap();
    assert_eq!(generations.began(), Some(BEGAN));
    let current = generations.current().unwrap();
    let engine = engine::open(OPTIONS.kind, &current, OPTIONS.map_bytes).unwrap();
    assert_eq!(
        dir.read_dir().unwrap().count(),
        2,
        "CURRENT and one generation"
    );
    keys(&*engine)
}

#[test]
fn the_file_shrinks_and_the_rows_stay_with_those_of_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (generations, engine) = fragmented(dir.path());
    let before = engine.size();
    assert!(4 * before.in_use_bytes < before.total_bytes, "{before:?}");
    let movable = as_movable(&*engine).unwrap();
    let writes = std::sync::atomic::AtomicU64::new(0);
    // Called at the begin, and after each step but the last; here there is one.
    let room = |dir: &Path| {
        let write = writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        engine.write(&batch(9000 + write, 1)).unwrap();
        plenty(dir)
    };
    let generations = Mutex::new(generations);
    relocate(movable, &generations, OPTIONS, room, || false).unwrap();
    engine.write(&batch(9500, 1)).unwrap();
    let after = engine.size();
    assert!(4 * after.total_bytes < before.total_bytes, "{after:?}");
    let expected: Vec<u64> = (0..100).chain([9000, 9500]).collect();
    assert_eq!(keys(&*engine), expected);
    drop(engine);
    drop(generations);
    assert_eq!(reopened(dir.path()), expected);
}

#[test]
fn a_crash_in_any_step_leaves_a_whole_engine() {
    let kept: Vec<u64> = (0..100).chain([9000]).collect();
    for steps in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let (mut generations, engine) = fragmented(dir.path());
        let movable = as_movable(&*engine).unwrap();
        // The process ends after so many of the steps of `relocate`.
        let fresh = generations.begin().unwrap();
        if 0 < steps {
            let to = engine::open_unmovable(OPTIONS.kind, &fresh.dir, OPTIONS.map_bytes);
            movable.begin(to.unwrap(), fresh.dir.clone());
        }
        if 1 < steps {
            assert!(movable.copy_step(20_000).unwrap());
        }
        engine.write(&batch(9000, 1)).unwrap();
        if 2 < steps {
            while movable.copy_step(20_000).unwrap() {}
        }
        if 3 < steps {
            let switched =
                movable.finish(|| generations.switch(&fresh, BEGAN).map_err(DefragError::from));
            switched.unwrap();
        }
        if 4 < steps {
            generations.remove_others().unwrap();
        }
        drop(engine);
        drop(generations);
        assert_eq!(reopened(dir.path()), kept, "{steps} steps");
    }
}

#[test]
fn without_room_on_the_disk_nothing_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (generations, engine) = fragmented(dir.path());
    let movable = as_movable(&*engine).unwrap();
    let generations = Mutex::new(generations);
    let refused = relocate(movable, &generations, OPTIONS, |_| Ok(1000), || false);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("the disk has 1000 bytes free"), "{text}");
    engine.write(&batch(9000, 1)).unwrap();
    drop(engine);
    drop(generations);
    assert_eq!(reopened(dir.path()).len(), 101);
}

#[test]
fn a_snapshot_that_comes_meanwhile_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (generations, engine) = fragmented(dir.path());
    let movable = as_movable(&*engine).unwrap();
    let generations = Mutex::new(generations);
    let install = |dir: &Path| {
        let mut generations = generations.lock();
        let snapshot = generations.begin().unwrap();
        let to = engine::open(OPTIONS.kind, &snapshot.dir, OPTIONS.map_bytes).unwrap();
        to.write(&batch(1, 1)).unwrap();
        generations.switch(&snapshot, BEGAN).unwrap();
        plenty(dir)
    };
    let refused = relocate(movable, &generations, OPTIONS, install, || false);
    assert!(matches!(refused, Err(DefragError::Replaced)), "{refused:?}");
    drop(engine);
    drop(generations);
    assert_eq!(reopened(dir.path()), [1]);
}

/// The view has the old engine for a moment after `CURRENT` names the snapshot's.
#[test]
fn an_engine_that_a_snapshot_has_replaced_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (mut generations, engine) = fragmented(dir.path());
    let snapshot = generations.begin().unwrap();
    let to = engine::open(OPTIONS.kind, &snapshot.dir, OPTIONS.map_bytes).unwrap();
    to.write(&batch(1, 1)).unwrap();
    generations.switch(&snapshot, BEGAN).unwrap();
    generations.remove_others().unwrap();
    let generations = Mutex::new(generations);
    let movable = as_movable(&*engine).unwrap();
    let refused = relocate(movable, &generations, OPTIONS, plenty, || false);
    assert!(matches!(refused, Err(DefragError::Replaced)), "{refused:?}");
    drop((engine, to, generations));
    assert_eq!(reopened(dir.path()), [1]);
}

#[test]
fn a_copy_that_would_fill_the_disk_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (generations, engine) = fragmented(dir.path());
    // More than one step.
    engine.write(&batch(10_000, 6000)).unwrap();
    let movable = as_movable(&*engine).unwrap();
    let looks = std::sync::atomic::AtomicU64::new(0);
    let room = |_: &Path| match looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Ok(u64::MAX),
        _ => Ok(ROOM_LEFT_BYTES - 1),
    };
    let generations = Mutex::new(generations);
    let refused = relocate(movable, &generations, OPTIONS, room, || false);
    assert!(
        matches!(refused, Err(DefragError::NoRoom { .. })),
        "{refused:?}"
    );
    drop((engine, generations));
    assert_eq!(reopened(dir.path()).len(), 6100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_and_its_stopped_directory_are_defragmented() {
    use keelson_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
    let dir = tempfile::tempdir().unwrap();
    let config = crate::Config {
        unsafe_no_fsync: true,
        ..crate::Config::single("alone", dir.path())
    };
    let store = Store::open(config.clone()).await.unwrap();
    store.ready().await;
    for number in 0..300 {
        let put = PutRequest {
            key: format!("k{number}").into(),
            value: vec![1; 10_000].into(),
            ..PutRequest::default()
        };
        store.put(put).await.unwrap();
    }
    // In the file, not only in the memtable.
    while store.status().db_size < 3_000_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let delete = DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..DeleteRangeRequest::default()
    };
    let deleted = store.delete_range(delete).await.unwrap();
    let compaction = CompactionRequest {
        revision: deleted.header.unwrap().revision,
        physical: true,
    };
    store.compact(compaction).await.unwrap();
    let in_use = || store.status().db_size_in_use;
    while 1_000_000 < in_use() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = store.status();
    let (one, other) = tokio::join!(store.defragment(), store.defragment());
    one.and(other).unwrap();
    let after = store.status();
    assert!(2 * after.db_size < before.db_size, "{before:?} {after:?}");
    let mut metrics = keelson_port::metrics::Exposition::default();
    store.metrics_text(&mut metrics);
    let once = "\netcd_disk_backend_defrag_duration_seconds_count 1\n";
    assert!(metrics.into_text().contains(once), "the second call waits");
    store.shutdown().await;
    drop(store);
    let used = || defragment_stopped(dir.path(), None);
    let (before, after) = used().unwrap().unwrap();
    assert!(after <= before);
    let store = Store::open(config).await.unwrap();
    store.ready().await;
    assert!(matches!(used(), Err(StoppedDefragError::InUse(_))));
    assert_eq!(store.status().header.unwrap().revision, 302);
    store.shutdown().await;
    let nothing = defragment_stopped(&dir.path().join("none"), None);
    assert!(matches!(nothing, Err(StoppedDefragError::Nothing(_))));
}

/// A start with less than the threshold, or without one, copies nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_defragments_what_frees_as_much_as_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let config = |threshold| Config {
        bootstrap_defrag_bytes: threshold,
        ..Config::single("one", dir.path())
    };
    let store = Store::open(config(0)).await.unwrap();
    store.ready().await;
    store.shutdown().await;
    drop(store);
    let snap = dir.path().join("member/snap");
    let generations = Generations::open(Arc::new(RealDisk), &snap).unwrap();
    let current = generations.current().unwrap();
    let engine = engine::open(OPTIONS.kind, &current, OPTIONS.map_bytes).unwrap();
    engine.write(&batch(0, 5000)).unwrap();
    let mut deletion = WriteBatch::default();
    (0..5000u64).for_each(|number| deletion.delete(Table::Key, number.to_be_bytes().to_vec()));
    engine.write(&deletion).unwrap();
    let before = engine.size().total_bytes;
    drop((engine, generations));

    for (threshold, is_copied) in [(0, false), (1 << 40, false), (1 << 20, true)] {
        let store = Store::open(config(threshold)).await.unwrap();
        store.ready().await;
        // Again at the end of the start: the first one may still be at work.
        at_start(store.clone()).await;
        let after = store.view().size().total_bytes;
        assert_eq!(after < before / 4, is_copied, "{after} of {before}");
        store.shutdown().await;
    }
}
