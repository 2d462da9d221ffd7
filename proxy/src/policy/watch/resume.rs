//! Whether and where a watch resumes at another member.

use std::time::Duration;

use tokio::time::Instant;

use crate::http1::client::Head;

const X_ETCD_CLUSTER_ID: &str = "x-etcd-cluster-id";

/// A member whose history has an event sends it with the head, within this time.
const HISTORY_SENT: Duration = Duration::from_secs(1);

/// The number of events in a member's history.
const HISTORY_EVENTS: u64 = 1000;

/// The state of the member when its answer began, and the events since.
pub(super) struct Position {
    began: Instant,
    /// The member's index.
    pub(super) index: u64,
    /// The member's cluster; 0 if its answer does not name it.
    cluster: u64,
    /// Part of an event has arrived.
    pub(super) has_events: bool,
}

impl Position {
    pub(super) fn of(head: &Head) -> Position {
        Position {
            began: Instant::now(),
            index: head.index.unwrap_or(0),
            cluster: cluster(head),
            has_events: false,
        }
    }

    /// The index from which a watch resumes that its client began at `since`. A member with an
    /// event in its history sends it at once. If none has come, no event up to its index matches,
    /// and the index may have left the history since.
    pub(super) fn resumes_at(&self, since: u64) -> u64 {
        match !self.has_events && HISTORY_SENT < self.began.elapsed() {
            true => since.max(self.index.saturating_add(1)),
            false => since,
        }
    }

    /// Whether `next` is of a cluster that was set up since. With the same URLs and the same token
    /// it has the same id, and only its index restarts. A member that lags by more than a history
    /// counts as one too: the client sends its request again, and loses nothing.
    pub(super) fn is_other_cluster(&self, next: &Position) -> bool {
        let named = self.cluster != 0 && next.cluster != 0;
        let renamed = named && self.cluster != next.cluster;
        renamed || next.index.saturating_add(HISTORY_EVENTS) < self.index
    }
}

fn cluster(head: &Head) -> u64 {
    let headers = head.headers();
    let id = headers
        .get(X_ETCD_CLUSTER_ID)
        .and_then(|id| id.to_str().ok());
    id.and_then(|id| u64::from_str_radix(id, 16).ok())
        .unwrap_or(0)
}
