//! A byte count of queued messages. Queues are bounded in bytes, since a message has between a
//! hundred bytes and several megabytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that wait in a queue.
#[derive(Clone, Default)]
pub(super) struct QueueBytes(Arc<AtomicUsize>);

impl QueueBytes {
    /// Counts a message before it is queued; `None` if more than `bytes_max` would wait. A
    /// message always fits into an empty queue.
    pub(super) fn add(&self, bytes: usize, bytes_max: usize) -> Option<QueuedBytes> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let queued = QueuedBytes {
            waiting: self.clone(),
            bytes,
        };
        (before == 0 || before + bytes <= bytes_max).then_some(queued)
    }
}

/// The bytes of queued messages. Dropping it subtracts them.
pub(super) struct QueuedBytes {
    waiting: QueueBytes,
    pub(super) bytes: usize,
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
