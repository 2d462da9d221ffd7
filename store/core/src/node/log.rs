//! The part of the replicated log that is in memory, for raft-rs.
//!
//! It is not durable: the write-ahead log gets the same entries through `Output`. It is bounded by
//! bytes as well as by entries, since a number of entries does not bound memory (etcd#17098).

use std::cell::Cell;
use std::collections::VecDeque;

use keelson_proto::internal;
use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::convert;
use crate::{HardState, Index, LastIncluded, Term};

/// The entries after `base`, without gaps.
pub(super) struct MemoryLog {
    /// The entry before the first: index and term only.
    base: LastIncluded,
    entries: VecDeque<eraftpb::Entry>,
    size_bytes: usize,
    /// The size of the largest entry.
    largest_bytes: usize,
    hard_state: HardState,
    conf_state: internal::ConfState,
    /// The snapshot that the caller can send to followers that need entries before the log's first.
    snapshot: Option<eraftpb::Snapshot>,
    /// raft-rs requested a snapshot and none was available. A cell, since `Storage` takes `&self`.
    snapshot_wanted: Cell<bool>,
}

impl MemoryLog {
    /// The log as restored from the write-ahead log.
    pub(super) fn new(
        base: LastIncluded,
        entries: Vec<crate::Entry>,
        hard_state: HardState,
        conf_state: internal::ConfState,
    ) -> MemoryLog {
        let mut log = MemoryLog {
            base,
            entries: VecDeque::new(),
            size_bytes: 0,
            largest_bytes: 0,
            hard_state,
            conf_state,
            snapshot: None,
            snapshot_wanted: Cell::new(false),
        };
        for entry in entries {
            log.push(convert::entry_to_raft(entry));
        }
        log
    }

    pub(super) fn first(&self) -> u64 {
        self.base.index.0 + 1
    }

    pub(super) fn last(&self) -> u64 {
        self.base.index.0 + self.entries.len() as u64
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The size of the largest entry in memory, in bytes.
    pub(super) fn largest_bytes(&self) -> usize {
        self.largest_bytes
    }

    /// Recomputes the largest size over all entries. The log is cut by a quarter or more at a time
    /// and its end is rarely replaced, so the cost is amortized.
    fn update_largest(&mut self, largest_left: bool) {
        if largest_left {
            self.largest_bytes = self.entries.iter().map(weight).max().unwrap_or(0);
        }
    }

    /// Appends entries. If the first is at or below the end, it replaces the entries from there on.
    pub(super) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            self.base.index.0 < first.index,
            "an entry below the log's start"
        );
        assert!(first.index <= self.last() + 1, "a gap in the log");
        let mut largest_left = false;
        while first.index <= self.last() {
            let dropped = self.entries.pop_back().expect("the log is not empty");
            self.size_bytes -= weight(&dropped);
            largest_left |= weight(&dropped) == self.largest_bytes;
        }
        self.update_largest(largest_left);
        for entry in entries {
            self.push(entry.clone());
        }
    }

    fn push(&mut self, entry: eraftpb::Entry) {
        assert_eq!(entry.index, self.last() + 1, "a gap in the log");
        let weight = weight(&entry);
        self.size_bytes += weight;
        self.largest_bytes = self.largest_bytes.max(weight);
        self.entries.push_back(entry);
    }

    /// Empties the log: a snapshot has replaced it.
    pub(super) fn restore(&mut self, last_included: LastIncluded) {
        self.entries.clear();
        self.size_bytes = 0;
        self.largest_bytes = 0;
        self.base = last_included;
        self.snapshot = None;
    }

    /// Drops the entries up to `index`. Returns the new base if it moved.
    pub(super) fn compact(&mut self, index: u64) -> Option<LastIncluded> {
        let index = index.min(self.last());
        if index <= self.base.index.0 {
            return None;
        }
        let term = self.term_at(index).expect("the index is in the log");
        let mut largest_left = false;
        while self.base.index.0 < index {
            let dropped = self.entries.pop_front().expect("the index is in the log");
            self.size_bytes -= weight(&dropped);
            largest_left |= weight(&dropped) == self.largest_bytes;
            self.base.index = Index(dropped.index);
        }
        self.base.term = Term(term);
        self.update_largest(largest_left);
        let stale = |snapshot: &eraftpb::Snapshot| snapshot.get_metadata().index < index;
        if self.snapshot.as_ref().is_some_and(stale) {
            self.snapshot = None;
        }
        Some(self.base)
    }

    /// The lowest index such that the entries from it up to `index` fit both limits.
    pub(super) fn keep_from(&self, index: u64, entries_max: u64, bytes_max: usize) -> u64 {
        let mut bytes = 0;
        let mut keep = index + 1;
        let newest_first = self
            .entries
            .iter()
            .rev()
            .skip_while(|entry| index < entry.index);
        for entry in newest_first.take(usize::try_from(entries_max).unwrap_or(usize::MAX)) {
            bytes += weight(entry);
            if bytes_max < bytes {
                break;
            }
            keep = entry.index;
        }
        keep
    }

    /// Makes a snapshot available to followers that need one.
    pub(super) fn offer(&mut self, snapshot: eraftpb::Snapshot) {
        if self.base.index.0 <= snapshot.get_metadata().index {
            self.snapshot = Some(snapshot);
        }
    }

    /// Withdraws a snapshot that the caller has released: raft-rs requests another one for the next
    /// follower. Otherwise it would stay available until the log is cut beyond it.
    pub(super) fn withdraw(&mut self, last_included: LastIncluded) {
        let of_it = |snapshot: &mut eraftpb::Snapshot| {
            let meta = snapshot.get_metadata();
            let offered = LastIncluded {
                index: Index(meta.index),
                term: Term(meta.term),
            };
            offered == last_included
        };
        self.snapshot.take_if(of_it);
    }

    /// Whether raft-rs has requested a snapshot in vain since the last call.
    pub(super) fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }

    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index.0 {
            return Some(self.base.term.0);
        }
        let at = index.checked_sub(self.first())?;
        let entry = self.entries.get(usize::try_from(at).ok()?)?;
        Some(entry.term)
    }
}

/// The size of an entry in memory, in bytes.
pub(super) fn weight(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + entry.context.len() + size_of::<eraftpb::Entry>()
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = convert::conf_state_to_raft(&self.conf_state);
        Ok(RaftState::new(
            convert::hard_state_to_raft(&self.hard_state),
            conf_state,
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last() + 1,
            "raft reads beyond the end of the log"
        );
        let limit = max_size.into().unwrap_or(u64::MAX);
        let skip = usize::try_from(low - self.first()).expect("an offset in memory");
        let take = usize::try_from(high - low).expect("an offset in memory");
        let mut bytes = 0;
        let mut found = Vec::with_capacity(take.min(1024));
        for entry in self.entries.iter().skip(skip).take(take) {
            bytes += weight(entry) as u64;
            if limit < bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.base.index.0 {
            return Err(StorageError::Compacted.into());
        }
        self.term_at(index)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        // A member refuses a snapshot from before it was added, and would get it again and again.
        let fits = |snapshot: &&eraftpb::Snapshot| {
            let meta = snapshot.get_metadata();
            let conf = meta.get_conf_state();
            let known = conf.voters.contains(&to) || conf.learners.contains(&to);
            known && request_index <= meta.index
        };
        if let Some(snapshot) = self.snapshot.as_ref().filter(fits) {
            return Ok(snapshot.clone());
        }
        self.snapshot_wanted.set(true);
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, bytes: usize) -> eraftpb::Entry {
        let mut entry = eraftpb::Entry::default();
        entry.index = index;
        entry.data = vec![0; bytes].into();
        entry
    }

    /// Otherwise one large value would limit the appends in flight permanently.
    #[test]
    fn a_large_entry_that_was_dropped_no_longer_counts() {
        let start = LastIncluded::default();
        let mut log = MemoryLog::new(start, Vec::new(), HardState::default(), Default::default());
        let entries: Vec<_> = [10, 5_000, 20, 30, 10]
            .iter()
            .zip(1..)
            .map(|(bytes, index)| entry(index, *bytes))
            .collect();
        log.append(&entries);
        let largest = |log: &MemoryLog| log.largest_bytes() - size_of::<eraftpb::Entry>();
        assert_eq!(largest(&log), 5_000);
        log.compact(1);
        assert_eq!(largest(&log), 5_000);
        log.compact(3);
        assert_eq!(largest(&log), 30);
        log.append(&[entry(6, 5_000)]);
        log.append(&[entry(6, 1)]);
        assert_eq!(largest(&log), 30);
    }

    #[test]
    fn a_released_snapshot_is_requested_again() {
        let mark = |index| LastIncluded {
            index: Index(index),
            term: Term(1),
        };
        let conf_state = internal::ConfState {
            voters: vec![1, 2],
            ..Default::default()
        };
        let mut log = MemoryLog::new(
            mark(1),
            Vec::new(),
            HardState::default(),
            conf_state.clone(),
        );
        log.offer(convert::snapshot_of(5, 1, Some(conf_state)));
        assert!(log.snapshot(0, 2).is_ok());
        log.withdraw(mark(4));
        assert!(log.snapshot(0, 2).is_ok());
        assert!(!log.take_snapshot_wanted());
        log.withdraw(mark(5));
        assert!(log.snapshot(0, 2).is_err());
        assert!(log.take_snapshot_wanted());
    }
}
