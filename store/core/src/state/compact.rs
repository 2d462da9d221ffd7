//! Compaction: old revisions become unreadable at once, and their rows are deleted in small steps.
//!
//! The sweep walks the key index, not the rows: it finds superseded versions without reading any
//! row. Its deletions are part of the next flush, together with the compaction's progress, so that
//! the next start continues a sweep that a crash interrupted.

use std::sync::atomic::Ordering;

use keelson_proto::etcdserverpb::{CompactionRequest, CompactionResponse};

use super::error::Error;
use super::range::header;
use super::{Response, StateMachine};

/// A sweep over the key index.
pub(super) struct Sweep {
    revision: i64,
    /// The lower bound of the last processed leaf.
    after: Option<Box<[u8]>>,
}

impl Sweep {
    pub(super) fn new(revision: i64) -> Sweep {
        Sweep {
            revision,
            after: None,
        }
    }
}

impl StateMachine {
    /// Makes every revision below the requested one unreadable.
    pub(super) fn apply_compaction(
        &mut self,
        request: CompactionRequest,
    ) -> Result<Response, Error> {
        let current = self.shared.revision();
        if request.revision <= self.shared.compacted() {
            return Err(Error::Compacted);
        }
        if request.revision > current {
            return Err(Error::FutureRev);
        }
        self.shared
            .compacted
            .store(request.revision, Ordering::SeqCst);
        self.hash.word(request.revision as u64);
        // A sweep in progress starts over: the new one covers all of its work.
        self.sweep = Some(Sweep::new(request.revision));
        Ok(Response::Compaction(CompactionResponse {
            header: header(current),
        }))
    }

    /// Whether rows are left to delete.
    pub fn is_compacting(&self) -> bool {
        self.sweep.is_some()
    }

    /// The revision of the compaction that has rows left to delete.
    pub fn compacting_to(&self) -> Option<i64> {
        self.sweep.as_ref().map(|sweep| sweep.revision)
    }

    /// Whether a capture or a hash blocks `compact_step`.
    pub fn is_held(&self) -> bool {
        self.shared.held()
    }

    /// Performs one step of the physical compaction (128 keys, some microseconds). Returns true
    /// while more is left. Does nothing while a capture or a hash holds the rows. The deletions are
    /// part of the next flush.
    pub fn compact_step(&mut self) -> bool {
        let Some(sweep) = &mut self.sweep else {
            return false;
        };
        if self.shared.held() {
            return true;
        }
        let dropped = &mut self.dropped;
        let before = dropped.len();
        let after = sweep.after.take();
        let index = &self.shared.index;
        sweep.after = index.compact(after.as_deref(), sweep.revision, |row| {
            dropped.push(row);
        });
        self.shared.counters.swept(dropped.len() - before);
        if sweep.after.is_some() {
            return true;
        }
        self.shared.swept.store(sweep.revision, Ordering::SeqCst);
        self.sweep = None;
        false
    }
}
