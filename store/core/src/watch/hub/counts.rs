//! The watches of a member in numbers.

use std::sync::atomic::Ordering;

use super::WatchHub;

/// The watches of a member at one moment, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Streams.
    pub streams: usize,
    /// Watchers of all streams.
    pub watchers: usize,
    /// Streams that have lost revisions, which they will read from the history.
    pub slow_streams: usize,
    /// Revisions in mailboxes, counted for each stream.
    pub waiting: usize,
    /// Revisions that were put into mailboxes since the start, counted for each stream.
    pub deliveries: u64,
    /// The number of revisions by which the slowest stream is behind.
    pub lag: u64,
}

impl WatchHub {
    /// The streams and watchers at this moment.
    pub fn counts(&self) -> WatchCounts {
        let fan_out = self.fan_out.lock();
        let mut counts = WatchCounts {
            streams: fan_out.streams.len(),
            watchers: self.watchers.load(Ordering::Relaxed).max(0).unsigned_abs(),
            deliveries: self.deliveries.load(Ordering::Relaxed),
            ..WatchCounts::default()
        };
        let mut oldest = fan_out.next;
        for mailbox in fan_out.streams.values() {
            let (waiting, first, is_slow) = mailbox.counts();
            counts.waiting += waiting;
            counts.slow_streams += usize::from(is_slow);
            oldest = oldest.min(first.unwrap_or(oldest));
        }
        drop(fan_out);
        if counts.watchers != 0 {
            let newest = self.view().revision() + 1;
            counts.lag = newest.saturating_sub(oldest).max(0).unsigned_abs();
        }
        counts
    }
}
