//! The spans that have ended and are not exported yet: bounded, and never waited for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use keelson_proto::otlp::Span;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;

/// The most spans of one export: the default of OpenTelemetry's batch processor.
pub(super) const BATCH_SPANS: usize = 512;

/// The most spans that wait: the default of OpenTelemetry's batch processor.
const SPANS_MAX: usize = 2_048;

/// The most that they may weigh as they are sent, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// Spans that wait. A span that has no room is dropped and counted.
#[derive(Debug)]
pub(super) struct SpanQueue {
    waiting: Mutex<Waiting>,
    /// How many wait.
    count: watch::Sender<usize>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<Span>,
    bytes: usize,
}

impl Default for SpanQueue {
    fn default() -> SpanQueue {
        SpanQueue {
            waiting: Mutex::default(),
            count: watch::Sender::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl SpanQueue {
    pub(super) fn put(&self, span: Span) {
        let bytes = span.encoded_len();
        let mut waiting = self.waiting.lock();
        if waiting.spans.len() == SPANS_MAX || BYTES_MAX < waiting.bytes.saturating_add(bytes) {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += bytes;
        waiting.spans.push_back(span);
        self.tell(&waiting);
    }

    pub(super) fn take(&self) -> Vec<Span> {
        let mut waiting = self.waiting.lock();
        let count = waiting.spans.len().min(BATCH_SPANS);
        let taken: Vec<_> = waiting.spans.drain(..count).collect();
        let bytes: usize = taken.iter().map(Message::encoded_len).sum();
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        self.tell(&waiting);
        taken
    }

    /// Wakes the exporter only at the counts for which it waits.
    fn tell(&self, waiting: &Waiting) {
        let now = waiting.spans.len();
        self.count.send_if_modified(|count| {
            let before = std::mem::replace(count, now);
            [1, BATCH_SPANS]
                .iter()
                .any(|mark| (before < *mark) != (now < *mark))
        });
    }

    /// Returns once so many wait: 1, or a batch.
    pub(super) async fn reach(&self, spans: usize) {
        let mut count = self.count.subscribe();
        // The queue holds the sender.
        let _ = count.wait_for(|count| spans <= *count).await;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: String) -> Span {
        Span {
            name,
            ..Span::default()
        }
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let queue = SpanQueue::default();
        (0..SPANS_MAX + 5).for_each(|i| queue.put(span(i.to_string())));
        assert_eq!(queue.dropped(), 5);
        let first = queue.take();
        assert_eq!((first.len(), &*first[0].name), (BATCH_SPANS, "0"));
        queue.put(span("later".to_owned()));
        assert_eq!(queue.dropped(), 5);
        let taken = std::iter::from_fn(|| Some(queue.take()).filter(|spans| !spans.is_empty()));
        let last = taken.last().expect("more batches");
        assert_eq!(last.last().map(|span| &*span.name), Some("later"));
        assert_eq!(queue.waiting.lock().bytes, 0);
    }

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let queue = SpanQueue::default();
        (0..5).for_each(|_| queue.put(span("x".repeat(1 << 20))));
        assert_eq!((queue.take().len(), queue.dropped()), (3, 2));
    }

    #[tokio::test]
    async fn the_exporter_is_woken_by_the_first_span_and_by_a_batch() {
        let queue = std::sync::Arc::new(SpanQueue::default());
        let waiting = std::sync::Arc::clone(&queue);
        let woken = tokio::spawn(async move {
            waiting.reach(1).await;
            waiting.reach(BATCH_SPANS).await;
        });
        for i in 0..BATCH_SPANS {
            assert!(!woken.is_finished());
            queue.put(span(i.to_string()));
            tokio::task::yield_now().await;
        }
        woken.await.expect("it was woken");
    }
}
