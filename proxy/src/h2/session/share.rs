//! What one client takes of the connections that all clients' calls share.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::h2::Kept;
use crate::h2::burst::Burst;
use crate::policy::endpoints;

/// Small pieces of calls that have begun, and calls given up, a second.
const PIECES_MAX: u32 = 500;
const RESETS_MAX: u32 = 500;

/// Requests that are no calls and are forwarded at a time; the others wait for them. Each takes a
/// task, and turns from all clients.
const RUNNING_MAX: usize = 256;

/// A client's share. Beyond it the client's calls get connections of their own.
pub(in crate::h2) struct Share {
    /// Places for requests that are no calls. Waits take none.
    pub(in crate::h2) running: Semaphore,
    /// Of its requests that are not answered.
    pub(in crate::h2) kept: Kept,
    /// Of their bodies.
    pub(in crate::h2) kept_bodies: Kept,
    /// Of answers to it that wait.
    pub(in crate::h2) unread: Kept,
    pieces: Mutex<Burst>,
    resets: Mutex<Burst>,
    /// The client's number, once it has gone beyond its share.
    lane: AtomicU64,
}

impl Default for Share {
    fn default() -> Share {
        Share {
            running: Semaphore::new(RUNNING_MAX),
            kept: Kept::default(),
            kept_bodies: Kept::default(),
            unread: Kept::default(),
            pieces: Mutex::default(),
            resets: Mutex::default(),
            lane: AtomicU64::default(),
        }
    }
}

impl Share {
    /// A piece too small for a frame of its own has come.
    pub(in crate::h2) fn piece(&self) {
        self.count(&self.pieces, PIECES_MAX);
    }

    /// A call was given up.
    pub(in crate::h2) fn reset(&self) {
        self.count(&self.resets, RESETS_MAX);
    }

    fn count(&self, burst: &Mutex<Burst>, bound: u32) {
        if self.lane().is_none() && burst.lock().exceeds(bound) {
            self.take_lane();
        }
    }

    /// Its next calls go by connections of its own.
    pub(in crate::h2) fn take_lane(&self) {
        if self.lane().is_none() {
            self.lane.store(endpoints::random() | 1, Ordering::Relaxed);
        }
    }

    /// Whose connections its calls go by; `None`: those of all.
    pub(in crate::h2) fn lane(&self) -> Option<u64> {
        Some(self.lane.load(Ordering::Relaxed)).filter(|lane| *lane != 0)
    }
}
