//! Snapshots of a store, in a directory and in a bucket that is in memory.

use std::io;
use std::path::Path;

use keelson_store::internals::disk::sim::SimDisk;
use keelson_store::internals::disk::{self, Disk, RealDisk};

use super::*;

const OLD: &str = "snapshot-20200101T000000Z.db";

async fn store(dir: &tempfile::TempDir) -> Store {
    let config = keelson_store::Config::single("one", dir.path().join("data"));
    let store = Store::open(config).await.unwrap();
    store.ready().await;
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_and_the_oldest_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let backups = dir.path().join("backups");
    let plan = BackupPlan {
        target: BackupTarget::Directory(backups.clone()),
        interval: Duration::from_secs(3600),
        keep: 1,
    };
    assert_eq!(first_wait(&store, &plan).await, Duration::ZERO);
    disk::create_dir_durably(&RealDisk, &backups).unwrap();
    RealDisk.create(&backups.join(OLD)).unwrap();
    RealDisk.create(&backups.join("snapshot-mine.db")).unwrap();
    // Of a process that was killed.
    RealDisk.create(&backups.join(directory::PART)).unwrap();
    let (_stopping, stop) = watch::channel(false);
    assert!(take(&store, &plan, &stop).await);
    let names = RealDisk.list(&backups).unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[1], "snapshot-mine.db");
    let path = backups.join(&names[0]);
    let file = keelson_store::snapshot::SnapshotFile::open(&path).unwrap();
    file.check_sum().unwrap();
    // Another start takes none before its time.
    assert!(plan.interval / 2 < first_wait(&store, &plan).await);
    let due = BackupPlan {
        interval: Duration::ZERO,
        ..plan.clone()
    };
    assert_eq!(first_wait(&store, &due).await, Duration::ZERO);
    store.shutdown().await;
}

/// The next one is due soon, and a stop ends the wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_fails_harms_nothing_and_a_stop_is_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let file = dir.path().join("file");
    std::fs::write(&file, "a file").unwrap();
    let plan = BackupPlan {
        target: BackupTarget::Directory(file.join("below")),
        interval: Duration::from_secs(3600),
        keep: 1,
    };
    let (_stopping, stop) = watch::channel(false);
    assert!(!take(&store, &plan, &stop).await);
    let backups = ScheduledBackups::start(store.clone(), plan);
    backups.stop().await;
    let put = keelson_proto::etcdserverpb::PutRequest {
        key: "key".into(),
        ..Default::default()
    };
    store.put(put).await.unwrap();
    store.shutdown().await;
}

/// Found: the thread wrote on, and left its file.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_snapshot_into_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let backups = dir.path().join("backups");
    let mut polls = 0;
    // Within the snapshot: it waits for its first piece.
    let stop = std::future::poll_fn(move |_| {
        polls += 1;
        match polls {
            1 => std::task::Poll::Pending,
            _ => std::task::Poll::Ready(()),
        }
    });
    let stopped = directory::save(RealDisk, &store, &backups, stop).await;
    assert!(matches!(stopped, Err(BackupError::Stopped)), "{stopped:?}");
    assert_eq!(RealDisk.list(&backups).unwrap(), [] as [&str; 0]);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_one_snapshot_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let (disk, backups) = (SimDisk::new(), Path::new("/backups"));
    disk.limit(Some(4096));
    let never = std::future::pending;
    let full = directory::save(disk.clone(), &store, backups, never()).await;
    let Err(BackupError::Disk(error)) = full else {
        panic!("{full:?}");
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.list(backups).unwrap(), [] as [&str; 0]);
    let put = keelson_proto::etcdserverpb::PutRequest {
        key: "key".into(),
        ..Default::default()
    };
    store.put(put).await.unwrap();
    disk.limit(None);
    let saved = directory::save(disk.clone(), &store, backups, never()).await;
    let saved = saved.unwrap();
    let names = disk.list(backups).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(saved.place.ends_with(&names[0]) && 4096 < saved.bytes);
    store.shutdown().await;
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gets_snapshots_and_keeps_the_newest() {
    use crate::bucket::Bucket;
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let bucket = Bucket::in_memory("s3://b/m1");
    assert!(objects::newest(&bucket).await.unwrap().is_none());
    for name in [OLD, "snapshot-mine.db"] {
        bucket.put(name, "bytes").await;
    }
    let opened = bucket.clone();
    let saved = objects::save(|| Ok(opened), store.snapshot(), std::future::pending()).await;
    let saved = saved.unwrap();
    assert!(saved.place.starts_with("s3://b/m1/snapshot-2"), "{saved:?}");
    assert!(8 << 10 < saved.bytes, "{saved:?}");
    objects::prune(&bucket, 1).await.unwrap();
    let listed = bucket.list("snapshot-").await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|one| &*one.name).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(saved.place.ends_with(names[0]), "{names:?}");
    let age = objects::newest(&bucket).await.unwrap().unwrap().elapsed();
    assert!(age.unwrap_or_default() < Duration::from_secs(600));
    store.shutdown().await;
}

/// Such a snapshot was uploaded again every five minutes, and none was removed.
#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_listed_has_a_new_snapshot_all_the_same() {
    use crate::bucket::Bucket;
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let bucket = Bucket::in_memory("s3://b/m1");
    let blind = bucket.without_lists();
    let opened = blind.clone();
    let saved = objects::save(|| Ok(opened), store.snapshot(), std::future::pending()).await;
    let saved = saved.unwrap();
    let listed = bucket.list("snapshot-").await.unwrap();
    assert!(saved.place.ends_with(&listed[0].name), "{listed:?}");
    assert_eq!(saved.bytes, listed[0].bytes);
    // These are logged.
    objects::prune(&blind, 1).await.unwrap_err();
    objects::newest(&blind).await.unwrap_err();
    store.shutdown().await;
}
