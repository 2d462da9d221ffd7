//! Primitives shared by the threads. The unit tests use `modelled.rs` instead.

use std::time::{Duration, Instant};

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
pub(crate) use std::thread::{Thread, current};

pub(crate) use crossbeam::queue::SegQueue as Queue;
pub(crate) use parking_lot::Mutex;

/// A clock that counts from its creation.
pub(crate) struct Clock(Instant);

impl Default for Clock {
    fn default() -> Clock {
        Clock(Instant::now())
    }
}

impl Clock {
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).expect("half a million years")
    }

    /// Blocks until the thread is woken, or until `patience` has passed.
    pub(crate) fn park(&self, patience: Duration) {
        std::thread::park_timeout(patience);
    }
}
