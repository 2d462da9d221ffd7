//! What a member counts and measures for `/metrics`. `text` writes it, with what is read from the
//! state at each scrape.

mod backups;
mod certificates;
mod compactions;
mod defragmentations;
mod files;
mod peers;
mod prefixes;
mod ranges;
mod state;
mod text;
mod transfers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use keelson_port::metrics::Histogram;
use parking_lot::Mutex;

use crate::Error;

pub use backups::BackupMetrics;
pub(crate) use compactions::{CompactionClock, CompactionDurations};
pub(crate) use defragmentations::Defragmentations;
pub(crate) use peers::{LinkCounts, LinkRead};
pub(crate) use ranges::RangeDurations;
pub use transfers::ReceivedSnapshots;
pub(crate) use transfers::{Transfer, TransferCounts};

/// The unit of the histogram of times to live, whose seconds would overflow one of durations.
pub(crate) const TTL_SECOND: Duration = Duration::from_micros(1);

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
            whole_hashes: Histogram::exponential(Duration::from_millis(10), 15),
            sent_files: Histogram::exponential(Duration::from_millis(10), 17),
            lease_ttls: Histogram::exponential(TTL_SECOND, 24),
            ..MemberMetrics::default()
        }
    }
}

/// Texts of failed promotions; those of further errors are not kept.
const FAILURES_MAX: usize = 16;

impl MemberMetrics {
    /// Counts a promotion that failed.
    pub(crate) fn promotion_failed(&self, error: &Error) {
        let (mut failed, text) = (self.promotions_failed.lock(), error.to_string());
        if failed.len() < FAILURES_MAX || failed.contains_key(&text) {
            *failed.entry(text).or_default() += 1;
        }
    }
}

/// The counts and durations of a member since its start.
#[derive(Debug, Default)]
pub(crate) struct MemberMetrics {
    /// The durations of the log's fsyncs.
    pub(crate) syncs: Histogram,
    /// The durations of the log's writes before them.
    pub(crate) log_writes: Histogram,
    /// The bytes written to the log.
    pub(crate) log_bytes: Count,
    /// The durations of the engine's commits.
    pub(crate) commits: Histogram,
    /// The durations of installing snapshots of the leader.
    pub(crate) snapshots: Histogram,
    /// The durations of HashKV.
    pub(crate) hashes: Histogram,
    /// The durations of Hash.
    pub(crate) whole_hashes: Histogram,
    /// The durations of sending snapshots to clients.
    pub(crate) sent_files: Histogram,
    /// Whether a snapshot of the leader is being installed.
    pub(crate) is_installing: AtomicBool,
    /// The snapshots of other members.
    pub(crate) received: Arc<ReceivedSnapshots>,
    /// Snapshots that the program saves at an interval.
    pub(crate) backups: BackupMetrics,
    pub(crate) compactions: CompactionDurations,
    pub(crate) defragmentations: Defragmentations,
    pub(crate) ranges: RangeDurations,
    /// The granted times to live, in `TTL_SECOND`s.
    pub(crate) lease_ttls: Histogram,
    /// Promotions of learners that failed, by the error's text.
    pub(crate) promotions_failed: Mutex<BTreeMap<String, u64>>,
    /// How often this member's state was found to differ from the majority's.
    pub(crate) divergences: Count,
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
