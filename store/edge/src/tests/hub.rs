//! A fake member's watchers of the v2 tree: the core's, which deliver each event at once.

#![expect(
    clippy::disallowed_types,
    reason = "a fake of the member, which has the watchers"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use keelson_core::tree::watchers::{History, HistoryScan, STREAM_EVENTS_MAX, Sink};
use keelson_core::tree::watchers::{WatchSpec, Watchers, is_published};
use keelson_core::tree::{Event, TreeError};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::v2::{TreeWatch, WatchEnd};

/// The sending end of a watch; `None` is the notice that its client is too slow.
struct Channel(mpsc::Sender<Option<Arc<Event>>>);

impl Sink for Channel {
    fn unread(&self) -> (usize, usize) {
        (self.0.max_capacity() - self.0.capacity(), 0)
    }

    fn send(&mut self, event: &Arc<Event>) -> bool {
        self.0.try_send(Some(Arc::clone(event))).is_ok()
    }

    fn end_behind(&mut self) {
        let _ = self.0.try_send(None);
    }
}

/// The watchers, and their number.
#[derive(Default)]
pub(crate) struct FakeHub {
    watchers: Mutex<Watchers<Channel>>,
    count: AtomicUsize,
}

/// A watch of a fake member.
pub(crate) struct FakeWatch {
    index: u64,
    past: Vec<Arc<Event>>,
    events: mpsc::Receiver<Option<Arc<Event>>>,
    end: Option<WatchEnd>,
    hub: Arc<FakeHub>,
    path: Bytes,
    id: Option<u64>,
}

impl FakeHub {
    pub(super) fn publish(&self, event: &Arc<Event>) {
        if !is_published(event, self.count()) {
            return;
        }
        let over = self.watchers.lock().deliver(event);
        self.count.fetch_sub(over, Ordering::SeqCst);
    }

    /// Registers a watch. The caller holds back changes of the tree meanwhile.
    pub(crate) fn watch(
        self: &Arc<FakeHub>,
        spec: WatchSpec,
        history: &impl History,
    ) -> Result<FakeWatch, TreeError> {
        let scan = HistoryScan::run(&spec, history)?;
        let (sink, events) = mpsc::channel(STREAM_EVENTS_MAX + 1);
        let mut id = None;
        if scan.waits {
            id = self.watchers.lock().register(&spec, &scan, Channel(sink));
            self.count
                .fetch_add(usize::from(id.is_some()), Ordering::SeqCst);
        }
        Ok(FakeWatch {
            index: scan.index,
            past: scan.past,
            events,
            end: None,
            hub: Arc::clone(self),
            path: spec.path,
            id,
        })
    }

    /// The number of waiting watches.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Ends every watch, as a member that stops.
    pub(crate) fn cut_all(&self) {
        let over = self.watchers.lock().close();
        self.count.fetch_sub(over, Ordering::SeqCst);
    }
}

impl TreeWatch for FakeWatch {
    fn index(&self) -> u64 {
        self.index
    }

    fn now(&mut self) -> Option<Arc<Event>> {
        self.past.pop()
    }

    async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.pop() {
            return Some(event);
        }
        let next = self.events.recv().await;
        self.end = match next {
            Some(Some(_)) => None,
            Some(None) => Some(WatchEnd::Behind),
            None => Some(WatchEnd::Cut),
        };
        next.flatten()
    }

    fn end(&self) -> Option<WatchEnd> {
        self.end
    }
}

impl Drop for FakeWatch {
    fn drop(&mut self) {
        let id = self.id.take();
        if id.is_some_and(|id| self.hub.watchers.lock().unregister(&self.path, id)) {
            self.hub.count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
