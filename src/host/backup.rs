//! `--backup-dir`: snapshots of this member at an interval, of which the newest are kept.
//!
//! A file gets its name once it is whole and durable. Its name is the time, so that names sort as
//! the snapshots do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keelson_store::Store;
use keelson_store::internals::disk::{self, Disk, DiskFile, ReadOnlyFile, RealDisk};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tracing::{info, warn};

use crate::logging;

/// The beginning of a snapshot's name.
const PREFIX: &str = "snapshot-";
/// The end of a snapshot's name.
const SUFFIX: &str = ".db";
/// The name of a snapshot that is not whole.
const PART: &str = "snapshot.part";

/// Where snapshots are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupPlan {
    /// `--backup-dir`.
    pub(crate) dir: PathBuf,
    /// `--backup-interval`.
    pub(crate) interval: Duration,
    /// `--backup-keep`.
    pub(crate) keep: usize,
}

#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] keelson_store::Error),
    #[error("the thread has ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Takes a snapshot once the newest one is older than the interval, and at each interval from then
/// on: starts that follow each other must not replace older snapshots. A failed one is logged, and
/// the next is taken at its time.
pub(super) async fn run(store: Store, plan: BackupPlan) {
    store.ready().await;
    let plan = Arc::new(plan);
    let of = Arc::clone(&plan);
    let wait = tokio::task::spawn_blocking(move || first_wait(&of));
    let first = Instant::now() + wait.await.unwrap_or_default();
    let mut due = tokio::time::interval_at(first, plan.interval);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        match take(&store, &plan).await {
            Ok(path) => info!(path = %path.display(), "saved a scheduled snapshot"),
            Err(error) => warn!(%error, dir = %plan.dir.display(), "a scheduled snapshot failed"),
        }
    }
}

/// What is left of the interval since the newest snapshot, by its file's time. None without one.
fn first_wait(plan: &BackupPlan) -> Duration {
    let names = RealDisk.list(&plan.dir).unwrap_or_default();
    let newest = names.iter().rfind(|name| is_snapshot(name));
    let age = newest.and_then(|name| {
        let file = ReadOnlyFile::open(&plan.dir.join(name)).ok()?;
        file.modified().ok()?.elapsed().ok()
    });
    age.map_or(Duration::ZERO, |age| plan.interval.saturating_sub(age))
}

async fn take(store: &Store, plan: &Arc<BackupPlan>) -> Result<PathBuf, BackupError> {
    let (store, plan) = (store.clone(), Arc::clone(plan));
    let runtime = Handle::current();
    let taken = tokio::task::spawn_blocking(move || {
        let part = plan.dir.join(PART);
        let path = write(&store, &plan, &part, &runtime);
        if path.is_err() {
            let _ = RealDisk.remove(&part);
        }
        path
    });
    taken.await?
}

/// Writes a snapshot, and removes those that are too many. Blocks the thread.
fn write(
    store: &Store,
    plan: &BackupPlan,
    part: &Path,
    runtime: &Handle,
) -> Result<PathBuf, BackupError> {
    disk::create_dir_durably(&RealDisk, &plan.dir)?;
    if RealDisk.exists(part)? {
        RealDisk.remove(part)?;
    }
    let file = RealDisk.create(part)?;
    let mut pieces = Box::pin(store.snapshot());
    let mut at = 0;
    while let Some(piece) = runtime.block_on(pieces.next()) {
        let blob = piece?.blob;
        file.write_at(at, &blob)?;
        at += blob.len() as u64;
    }
    file.sync_data()?;
    let path = plan.dir.join(name(&logging::timestamp()));
    RealDisk.rename(part, &path)?;
    RealDisk.sync_dir(&plan.dir)?;
    for name in superfluous(&RealDisk.list(&plan.dir)?, plan.keep) {
        RealDisk.remove(&plan.dir.join(name))?;
    }
    Ok(path)
}

/// The name of a snapshot of that time, which is of RFC 3339 and UTC.
fn name(time: &str) -> String {
    let seconds = time.split(['.', 'Z']).next().unwrap_or_default();
    let digits: String = seconds
        .chars()
        .filter(|char| !"-:".contains(*char))
        .collect();
    format!("{PREFIX}{digits}Z{SUFFIX}")
}

fn is_snapshot(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// The oldest snapshots of a sorted directory, but for the newest ones.
fn superfluous(names: &[String], keep: usize) -> Vec<&String> {
    let snapshots: Vec<_> = names.iter().filter(|name| is_snapshot(name)).collect();
    let too_many = snapshots.len().saturating_sub(keep);
    snapshots.into_iter().take(too_many).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_times_and_the_newest_are_kept() {
        let name = name("2026-11-29T23:14:37.123456Z");
        assert_eq!(name, "snapshot-20261129T231437Z.db");
        let names = [
            "other.db",
            "snapshot-1Z.db",
            "snapshot-2Z.db",
            "snapshot.part",
        ];
        let names = names.map(str::to_owned);
        assert_eq!(superfluous(&names, 1), ["snapshot-1Z.db"]);
        assert!(superfluous(&names, 2).is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn snapshots_are_taken_and_the_oldest_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let config = keelson_store::Config::single("one", dir.path().join("data"));
        let store = Store::open(config).await.unwrap();
        store.ready().await;
        let plan = Arc::new(BackupPlan {
            dir: dir.path().join("backups"),
            interval: Duration::from_secs(3600),
            keep: 1,
        });
        disk::create_dir_durably(&RealDisk, &plan.dir).unwrap();
        RealDisk.create(&plan.dir.join("snapshot-1Z.db")).unwrap();
        // Of a process that was killed.
        RealDisk.create(&plan.dir.join(PART)).unwrap();
        let path = take(&store, &plan).await.unwrap();
        let names = RealDisk.list(&plan.dir).unwrap();
        assert_eq!(names.len(), 1);
        assert!(path.ends_with(&names[0]));
        let file = keelson_store::snapshot::SnapshotFile::open(&path).unwrap();
        file.check_sum().unwrap();
        // Another start takes none before its time.
        assert!(plan.interval / 2 < first_wait(&plan));
        let due = BackupPlan {
            interval: Duration::ZERO,
            ..(*plan).clone()
        };
        assert_eq!(first_wait(&due), Duration::ZERO);
        store.shutdown().await;
    }
}
