//! When a member is ready for clients, and the waits for what happens to it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Store;

impl Store {
    /// Waits until the member may serve clients: it has published its attributes, and has applied
    /// everything that was committed when it started. Without a leader, a member with data
    /// becomes ready with what its own log had committed, so that a cluster without a quorum
    /// still answers serializable reads. Also returns when the member stops.
    pub async fn ready(&self) {
        if self.inner.is_ready.load(Ordering::Acquire) {
            return;
        }
        let mut stopping = self.inner.stopping.subscribe();
        tokio::select! {
            () = self.become_ready() => self.inner.is_ready.store(true, Ordering::Release),
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    async fn become_ready(&self) {
        let mut applied = self.inner.shared.watch_applied();
        // A fenced member serves what it can: refusals, and its status. It cannot publish itself.
        let fenced = applied.wait_for(|_| self.view().is_fenced());
        tokio::select! {
            () = self.catch_up_with_log() => {}
            _ = fenced => {}
        }
    }

    async fn catch_up_with_log(&self) {
        let mut published = self.inner.published.subscribe();
        let caught_up = async {
            let _ = published.wait_for(|published| *published).await;
            while self.read_index().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if self.inner.is_new {
            return caught_up.await;
        }
        let patience = Duration::from_millis(self.inner.config.election_ms * 3);
        if tokio::time::timeout(patience, caught_up).await.is_err() {
            tracing::warn!("no leader found; serving what this member's own log had committed");
            let committed = self.inner.committed_at_start;
            let mut applied = self.inner.shared.watch_applied();
            let _ = applied.wait_for(|applied| committed <= *applied).await;
        }
    }

    /// Waits until this member's name and client URLs are published in the cluster.
    pub async fn published(&self) {
        let mut published = self.inner.published.subscribe();
        let _ = published.wait_for(|published| *published).await;
    }

    /// Waits until this member has been removed from the cluster. It should then be shut down.
    pub async fn removed(&self) {
        let mut removed = self.inner.shared.watch_removed();
        let _ = removed.wait_for(|removed| *removed).await;
    }
}
