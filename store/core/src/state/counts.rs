//! Counts of the operations on pairs, for metrics. They are no part of the state.

use std::sync::atomic::{AtomicU64, Ordering};

/// Written by the applier and by readers; a count costs one relaxed addition.
#[derive(Default)]
pub(super) struct Counters {
    puts: AtomicU64,
    put_bytes: AtomicU64,
    deletes: AtomicU64,
    ranges: AtomicU64,
    txns: AtomicU64,
    swept: AtomicU64,
}

/// The operations since the state was opened, with etcd's meanings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Puts, also within transactions.
    pub puts: u64,
    /// The keys and values of these puts, in bytes.
    pub put_bytes: u64,
    /// Deletions of ranges.
    pub deletes: u64,
    /// Ranges read.
    pub ranges: u64,
    /// Transactions that changed something with more than one operation.
    pub txns: u64,
    /// Rows that compaction has deleted.
    pub swept: u64,
}

impl Counters {
    pub(super) fn put(&self, bytes: usize) {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.put_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn delete(&self) {
        self.deletes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn range(&self) {
        self.ranges.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn txn(&self) {
        self.txns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn swept(&self, rows: usize) {
        self.swept.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> StateCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StateCounts {
            puts: load(&self.puts),
            put_bytes: load(&self.put_bytes),
            deletes: load(&self.deletes),
            ranges: load(&self.ranges),
            txns: load(&self.txns),
            swept: load(&self.swept),
        }
    }
}
