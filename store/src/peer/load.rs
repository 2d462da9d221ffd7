//! What messages between members weigh, and a count of what waits: queues are bounded in bytes, since
//! a message may be a hundred bytes or megabytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that wait in a queue.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Counts a message that is about to be queued; `None` if more than `bytes_max` would wait. A
    /// message that finds the queue empty always may.
    pub(super) fn add(&self, bytes: usize, bytes_max: usize) -> Option<Counted> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let counted = Counted {
            waiting: self.clone(),
            bytes,
        };
        (before == 0 || before + bytes <= bytes_max).then_some(counted)
    }
}

/// Bytes that wait, until it is dropped.
pub(super) struct Counted {
    waiting: Waiting,
    pub(super) bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
