//! The highest value of a number that this proxy has sent to any client.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A number that does not go back for clients, and the wait for a member that has reached it.
pub(crate) struct Mark {
    value: AtomicU64,
    /// The time that members get to reach the mark, for all requests together.
    catch_up: Duration,
    /// `lag.missing` is set.
    lagging: AtomicBool,
    lag: Mutex<Lag>,
}

#[derive(Default)]
struct Lag {
    /// The time of the last stale answer.
    last: Option<Instant>,
    /// A value that no answer has reached, and since when.
    missing: Option<(u64, Instant)>,
}

impl Mark {
    pub(crate) fn new(catch_up: Duration) -> Mark {
        Mark {
            value: AtomicU64::new(0),
            catch_up,
            lagging: AtomicBool::new(false),
            lag: Mutex::default(),
        }
    }

    /// The mark.
    pub(crate) fn current(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Raises the mark to the value of an answer.
    pub(crate) fn observe(&self, value: Option<u64>) {
        let value = value.unwrap_or(0);
        if self.current() < value {
            self.value.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// Until when a newer answer may be sought, if this value is stale: `known` is the mark that
    /// it may not be below. All requests share the deadline. Clients that give up sooner and retry
    /// must not extend it.
    pub(crate) fn stale_until(&self, known: u64, value: Option<u64>) -> Option<Instant> {
        let value = value?;
        let newest = self.current();
        if newest <= value {
            if self.lagging.load(Ordering::Relaxed) {
                self.lagging.store(false, Ordering::Relaxed);
                self.lag.lock().missing = None;
            }
            return None;
        }
        if known <= value {
            return None;
        }
        let now = Instant::now();
        let mut lag = self.lag.lock();
        lag.last = Some(now);
        let since = match lag.missing {
            Some((missing, since)) if missing == newest => since,
            _ => now,
        };
        lag.missing = Some((newest, since));
        self.lagging.store(true, Ordering::Relaxed);
        Some(since + self.catch_up)
    }

    /// No answer newer than this value was found. After the deadline the mark falls to it.
    pub(crate) fn give_up(&self, value: Option<u64>) {
        let mut lag = self.lag.lock();
        if let (Some(value), Some((newest, since))) = (value, lag.missing)
            && self.catch_up <= since.elapsed()
        {
            lag.missing = None;
            // Unless the mark has risen meanwhile.
            let order = Ordering::Relaxed;
            let _ = self.value.compare_exchange(newest, value, order, order);
        }
    }

    /// The time of the last stale answer.
    pub(crate) fn last_stale(&self) -> Option<Instant> {
        self.lag.lock().last
    }
}
