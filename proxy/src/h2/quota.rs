//! The use that one client makes of the connections shared by all clients.

use std::sync::atomic::{AtomicU64, Ordering};

use keelson_port::http2::RateLimit;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::h2::MemoryBudget;
use crate::policy::endpoints;

/// Small frames of forwarded calls, and resets, a second.
const PIECES_MAX: u32 = 500;
const RESETS_MAX: u32 = 500;

/// The number of requests other than calls that are forwarded at a time. Each takes a task, and CPU
/// time from other clients.
const RUNNING_MAX: usize = 256;

/// The quota of a client. Beyond it, its calls use connections of their own.
pub(super) struct ClientQuota {
    /// Permits for requests other than calls. Long polls take none.
    pub(super) running: Semaphore,
    /// The fields of its unanswered requests.
    pub(super) kept: MemoryBudget,
    /// The bodies of its unanswered requests.
    pub(super) kept_bodies: MemoryBudget,
    /// What is kept to continue its streams.
    pub(super) kept_streams: MemoryBudget,
    /// The answers that wait for the client.
    pub(super) unread: MemoryBudget,
    small_frames: Mutex<RateLimit>,
    resets: Mutex<RateLimit>,
    /// The number of the client's lane, once it has exceeded its quota; 0: none.
    lane: AtomicU64,
}

impl Default for ClientQuota {
    fn default() -> ClientQuota {
        ClientQuota {
            running: Semaphore::new(RUNNING_MAX),
            kept: MemoryBudget::default(),
            kept_bodies: MemoryBudget::default(),
            kept_streams: MemoryBudget::default(),
            unread: MemoryBudget::default(),
            small_frames: Mutex::default(),
            resets: Mutex::default(),
            lane: AtomicU64::default(),
        }
    }
}

impl ClientQuota {
    /// Counts a small frame.
    pub(super) fn piece(&self) {
        self.count(&self.small_frames, PIECES_MAX);
    }

    /// Counts a reset.
    pub(super) fn reset(&self) {
        self.count(&self.resets, RESETS_MAX);
    }

    fn count(&self, burst: &Mutex<RateLimit>, bound: u32) {
        if self.lane().is_none() && burst.lock().exceeds(bound) {
            self.take_lane();
        }
    }

    /// Gives the client a lane of its own.
    pub(super) fn take_lane(&self) {
        if self.lane().is_none() {
            self.lane.store(endpoints::random() | 1, Ordering::Relaxed);
        }
    }

    /// The client's lane; `None`: the shared one.
    pub(super) fn lane(&self) -> Option<u64> {
        Some(self.lane.load(Ordering::Relaxed)).filter(|lane| *lane != 0)
    }
}
