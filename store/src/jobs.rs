//! Work of a member outside its threads and tasks: computations on the blocking pool, requests to
//! peers, and the connections of the peer port. Each holds the storage engine, and a stopped member
//! must have released it: another program, or this one, may open the directory at once.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long a stop waits for computations, which cannot be cancelled.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The work of one member.
#[derive(Default)]
pub(crate) struct Jobs {
    tracker: TaskTracker,
    stopped: CancellationToken,
}

impl Jobs {
    /// Runs a task until it ends or the member stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.tracker.spawn(async move {
            stopped.run_until_cancelled(task).await;
        });
    }

    /// Runs a computation on the blocking pool, to its end also if its caller leaves.
    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn_blocking(work)
    }

    /// What holds the token counts as work until it is dropped.
    pub(crate) fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Cancels the tasks, and waits until all work has ended, within a bound.
    pub(crate) async fn stop(&self) {
        self.stopped.cancel();
        self.tracker.close();
        if tokio::time::timeout(STOP_PATIENCE, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                jobs = self.tracker.len(),
                "a computation goes on after the stop and holds the storage engine"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_cancels_tasks_and_waits_for_computations_and_tokens() {
        let jobs = Jobs::default();
        jobs.spawn(std::future::pending());
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let computing = jobs.spawn_blocking(move || wait.recv().is_err());
        let token = jobs.token();
        let stop = jobs.stop();
        tokio::pin!(stop);
        assert!(futures_util::poll!(&mut stop).is_pending());
        drop(release);
        assert_eq!(computing.await.ok(), Some(true));
        assert!(futures_util::poll!(&mut stop).is_pending());
        drop(token);
        stop.await;
        assert!(jobs.tracker.is_empty());
    }
}
