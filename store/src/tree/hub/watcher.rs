//! A watcher as the hub has it: where its events go, and how far it may be behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keelson_core::tree::Event;
use tokio::sync::{mpsc, oneshot};

use super::watch::Source;

/// Events that a streaming watcher may be behind; etcd's figure.
pub(super) const BUFFER: usize = 100;

/// What those may weigh, in bytes. One is taken in any case. etcd has no such bound: a client that does
/// not read could hold a hundred events with two values of 10 MB each.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;

/// One watcher at its path.
pub(super) struct Watcher {
    pub(super) recursive: bool,
    /// The first index of interest from now on.
    pub(super) since: u64,
    pub(super) sink: Sink,
}

/// Where the events of a watcher go.
pub(super) enum Sink {
    Once(Option<oneshot::Sender<Arc<Event>>>),
    Stream(StreamSink),
}

impl Watcher {
    /// Hands the event over. Returns whether the watcher stays.
    pub(super) fn hear(&mut self, event: &Arc<Event>) -> bool {
        match &mut self.sink {
            Sink::Once(sink) => {
                if let Some(sink) = sink.take() {
                    // The client may be gone.
                    let _ = sink.send(Arc::clone(event));
                }
                false
            }
            Sink::Stream(sink) => {
                self.since = event.index + 1;
                sink.send(event)
            }
        }
    }
}

/// The hub's end of a stream.
pub(super) struct StreamSink {
    /// `None` is the notice that the buffer is full; a place is kept for it.
    events: mpsc::Sender<Option<Arc<Event>>>,
    /// What the events in the buffer weigh.
    bytes: Arc<AtomicUsize>,
}

impl StreamSink {
    /// Returns whether the stream goes on.
    fn send(&self, event: &Arc<Event>) -> bool {
        let (before, weight) = (self.bytes.load(Ordering::Relaxed), event.node_bytes());
        let too_large = 0 < before && BUFFER_BYTES < before + weight;
        if too_large || self.events.capacity() <= 1 {
            let _ = self.events.try_send(None);
            return false;
        }
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        self.events.try_send(Some(Arc::clone(event))).is_ok()
    }
}

/// The client's end of a stream.
pub(super) struct StreamSource {
    events: mpsc::Receiver<Option<Arc<Event>>>,
    bytes: Arc<AtomicUsize>,
}

impl StreamSource {
    /// The next event, or the notice that the stream ends because its client is behind; `None` once the
    /// hub has dropped its end.
    pub(super) async fn next(&mut self) -> Option<Option<Arc<Event>>> {
        let next = self.events.recv().await?;
        if let Some(event) = &next {
            self.bytes.fetch_sub(event.node_bytes(), Ordering::Relaxed);
        }
        Some(next)
    }
}

/// The two ends of a watch.
pub(super) fn channel(stream: bool) -> (Sink, Source) {
    if stream {
        let (sink, source) = mpsc::channel(BUFFER + 1);
        let bytes = Arc::<AtomicUsize>::default();
        let sink = StreamSink {
            events: sink,
            bytes: Arc::clone(&bytes),
        };
        let source = StreamSource {
            events: source,
            bytes,
        };
        (Sink::Stream(sink), Source::Stream(source))
    } else {
        let (sink, source) = oneshot::channel();
        (Sink::Once(Some(sink)), Source::Once(source))
    }
}
