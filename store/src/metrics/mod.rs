//! What a member counts and measures for `/metrics`. `text` writes it, with what is read from the
//! state at each scrape.

mod certificates;
mod peers;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use keelson_port::metrics::Histogram;

pub(crate) use peers::{LinkCounts, LinkRead};

/// A count that any thread adds to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl MemberMetrics {
    /// Nothing is counted yet. The buckets are etcd's.
    pub(crate) fn new() -> MemberMetrics {
        MemberMetrics {
            snapshots: Histogram::exponential(Duration::from_millis(100), 10),
            hashes: Histogram::exponential(Duration::from_millis(10), 15),
            ..MemberMetrics::default()
        }
    }
}

/// The counts and durations of a member since its start.
#[derive(Debug, Default)]
pub(crate) struct MemberMetrics {
    /// The durations of the log's fsyncs.
    pub(crate) syncs: Histogram,
    /// The bytes written to the log.
    pub(crate) log_bytes: Count,
    /// The durations of the engine's commits.
    pub(crate) commits: Histogram,
    /// The durations of installing snapshots of the leader.
    pub(crate) snapshots: Histogram,
    /// The durations of HashKV.
    pub(crate) hashes: Histogram,
    pub(crate) slow_applies: Count,
    pub(crate) proposals_failed: Count,
    pub(crate) reads_failed: Count,
    pub(crate) reads_slow: Count,
    pub(crate) learners_promoted: Count,
    pub(crate) leases_granted: Count,
    pub(crate) leases_gone: Count,
    pub(crate) leases_expired: Count,
    pub(crate) leases_renewed: Count,
}
