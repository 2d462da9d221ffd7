//! The channel between the hub and a watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keelson_core::tree::Event;
use keelson_core::tree::watchers::{STREAM_EVENTS_MAX, Sink};
use tokio::sync::{mpsc, oneshot};

use super::watch::Source;

/// The hub's end of a watch. Small, since ten thousand long polls may wait.
pub(super) enum Channel {
    Once(Option<oneshot::Sender<Arc<Event>>>),
    Stream(Box<StreamSink>),
}

impl Sink for Channel {
    fn unread(&self) -> (usize, usize) {
        match self {
            Channel::Once(_) => (0, 0),
            Channel::Stream(sink) => sink.unread(),
        }
    }

    fn send(&mut self, event: &Arc<Event>) -> bool {
        match self {
            Channel::Once(sink) => {
                let sent = sink.take().map(|sink| sink.send(Arc::clone(event)));
                sent.is_some_and(|sent| sent.is_ok())
            }
            Channel::Stream(sink) => sink.send(event),
        }
    }

    fn end_behind(&mut self) {
        if let Channel::Stream(sink) = self {
            let _ = sink.events.try_send(None);
        }
    }
}

/// The hub's end of a stream.
pub(super) struct StreamSink {
    /// `None` is the notice that the client is too far behind; a place is reserved for it.
    events: mpsc::Sender<Option<Arc<Event>>>,
    /// The size of the events in the channel, in bytes.
    bytes: Arc<AtomicUsize>,
}

impl StreamSink {
    fn unread(&self) -> (usize, usize) {
        let events = self.events.max_capacity() - self.events.capacity();
        (events, self.bytes.load(Ordering::Relaxed))
    }

    fn send(&self, event: &Arc<Event>) -> bool {
        self.bytes.fetch_add(event.node_bytes(), Ordering::Relaxed);
        self.events.try_send(Some(Arc::clone(event))).is_ok()
    }
}

/// The client's end of a stream.
pub(super) struct StreamSource {
    events: mpsc::Receiver<Option<Arc<Event>>>,
    bytes: Arc<AtomicUsize>,
}

impl StreamSource {
    /// The next event, or the notice that the client is too far behind; `None` once the hub has
    /// dropped its end.
    pub(super) async fn next(&mut self) -> Option<Option<Arc<Event>>> {
        let next = self.events.recv().await?;
        if let Some(event) = &next {
            self.bytes.fetch_sub(event.node_bytes(), Ordering::Relaxed);
        }
        Some(next)
    }
}

/// The two ends of a watch.
pub(super) fn channel(stream: bool) -> (Channel, Source) {
    if stream {
        let (sink, source) = mpsc::channel(STREAM_EVENTS_MAX + 1);
        let bytes = Arc::<AtomicUsize>::default();
        let sink = StreamSink {
            events: sink,
            bytes: Arc::clone(&bytes),
        };
        let source = StreamSource {
            events: source,
            bytes,
        };
        (Channel::Stream(Box::new(sink)), Source::Stream(source))
    } else {
        let (sink, source) = oneshot::channel();
        (Channel::Once(Some(sink)), Source::Once(source))
    }
}
