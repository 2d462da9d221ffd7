//! `--backup-dir`: snapshots of this member at an interval, of which the newest are kept.
//!
//! A snapshot gets its name once it is whole and durable. Its name is the time, so that names sort
//! as the snapshots do.

mod directory;
mod name;
#[cfg(feature = "s3")]
mod objects;
mod target;

use std::time::{Duration, Instant};

use keelson_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub(crate) use self::target::BackupTarget;

/// A failed snapshot is tried again after so long, or after the interval if that is shorter.
const AGAIN: Duration = Duration::from_secs(300);

/// How long a stop waits for an upload to be given up, which has two steps of 2 s.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Where snapshots are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupPlan {
    /// `--backup-dir`.
    pub(crate) target: BackupTarget,
    /// `--backup-interval`.
    pub(crate) interval: Duration,
    /// `--backup-keep`.
    pub(crate) keep: usize,
}

/// A snapshot that was saved.
#[derive(Debug)]
struct Saved {
    place: String,
    bytes: u64,
}

#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error(transparent)]
    Disk(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] keelson_store::Error),
    #[error("the thread has ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
    #[error("the member stops")]
    Stopped,
    #[error(transparent)]
    Bucket(#[from] crate::bucket::BucketError),
    #[cfg(feature = "s3")]
    #[error(transparent)]
    Upload(#[from] crate::bucket::UploadError),
    #[cfg(feature = "s3")]
    #[error("{place} is not listed with the {sent} bytes that were sent")]
    NotListed { place: String, sent: u64 },
}

/// The scheduled snapshots of a member.
pub(super) struct ScheduledBackups {
    task: JoinHandle<()>,
    stopping: watch::Sender<bool>,
}

impl ScheduledBackups {
    /// Begins them.
    pub(super) fn start(store: Store, plan: BackupPlan) -> ScheduledBackups {
        let (stopping, stop) = watch::channel(false);
        ScheduledBackups {
            task: tokio::spawn(run(store, plan, stop)),
            stopping,
        }
    }

    /// Ends them. An upload is given up, so that nothing of it stays in the bucket, if the store
    /// answers in time.
    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(STOP_MAX, &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
    }
}

/// Ends when the scheduled snapshots are to end.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender was dropped, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Takes a snapshot once the newest one is older than the interval, and at each interval from then
/// on: starts that follow each other must not replace older snapshots. A failed one is logged, and
/// tried again soon.
async fn run(store: Store, plan: BackupPlan, stop: watch::Receiver<bool>) {
    let mut wait = tokio::select! {
        () = stopped(stop.clone()) => return,
        wait = first_wait(&store, &plan) => wait,
    };
    loop {
        tokio::select! {
            () = stopped(stop.clone()) => return,
            () = tokio::time::sleep(wait) => {}
        }
        let began = Instant::now();
        // It ends by itself at a stop: something may be left to undo.
        let next = match take(&store, &plan, &stop).await {
            true => plan.interval,
            false => plan.interval.min(AGAIN),
        };
        wait = next.saturating_sub(began.elapsed());
    }
}

/// What is left of the interval since the newest snapshot. None without one.
async fn first_wait(store: &Store, plan: &BackupPlan) -> Duration {
    store.ready().await;
    store.backup_metrics().schedule(plan.interval);
    let newest = match plan.target.newest().await {
        Ok(newest) => {
            store.backup_metrics().found(newest);
            newest
        }
        Err(error) => {
            let target = &plan.target;
            warn!(%error, dir = %target, "cannot tell how old the newest scheduled snapshot is");
            None
        }
    };
    let age = newest.and_then(|newest| newest.elapsed().ok());
    age.map_or(Duration::ZERO, |age| plan.interval.saturating_sub(age))
}

/// Takes a snapshot, and removes those that are too many. Returns whether there is a new one.
async fn take(store: &Store, plan: &BackupPlan, stop: &watch::Receiver<bool>) -> bool {
    let (target, metrics, began) = (&plan.target, store.backup_metrics(), Instant::now());
    match target.save(store, stopped(stop.clone())).await {
        Ok(Saved { place, bytes }) => {
            let took = began.elapsed();
            metrics.saved(bytes, took);
            info!(path = place, bytes, took = ?took, "saved a scheduled snapshot");
        }
        Err(_) if *stop.borrow() => return false,
        Err(error) => {
            metrics.failed();
            warn!(%error, dir = %target, "a scheduled snapshot failed");
            return false;
        }
    }
    let pruned = tokio::select! {
        // The next start removes them.
        () = stopped(stop.clone()) => Ok(()),
        pruned = target.prune(plan.keep) => pruned,
    };
    // There is a new one all the same: another would cost a whole upload, and remove nothing.
    if let Err(error) = pruned {
        metrics.failed();
        warn!(%error, dir = %target, "cannot remove older scheduled snapshots");
    }
    true
}

#[cfg(test)]
mod tests;
