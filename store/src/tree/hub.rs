//! The hub of the v2 tree's watchers: the core's watchers and their queue of events, behind locks.
//!
//! The core decides which watcher receives an event (`keelson_core::tree::watchers`). Events come
//! from the applier and are delivered by one task, so that ten thousand watchers do not delay the
//! log.

mod watch;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use keelson_core::tree::watchers::{EventQueue, HistoryScan, Watchers, is_published};
pub use keelson_core::tree::watchers::{History, WatchSpec};
use keelson_core::tree::{Event, TreeError};
use keelson_edge::v2::WatchEnd;
use parking_lot::Mutex;
use tokio::sync::Notify;

use watch::Source;
pub use watch::Watch;
use watcher::{Channel, channel};

/// The watchers of a member.
pub struct Hub {
    watchers: Mutex<Watchers<Channel>>,
    /// The number of watchers, including those that are being registered: read for every change.
    count: AtomicUsize,
    queue: Mutex<EventQueue>,
    /// Wakes the task that delivers events.
    queued: Arc<Notify>,
    /// Held while an event is taken from the queue and delivered, so that events keep their
    /// order. Acquired before the other locks.
    delivery: Mutex<()>,
}

impl Hub {
    /// A hub, and the task that must be spawned for it.
    pub fn new() -> (Arc<Hub>, impl Future<Output = ()> + Send + 'static) {
        let queued = Arc::<Notify>::default();
        let hub = Arc::new(Hub {
            watchers: Mutex::default(),
            count: AtomicUsize::new(0),
            queue: Mutex::default(),
            queued: Arc::clone(&queued),
            delivery: Mutex::default(),
        });
        let delivery = Arc::downgrade(&hub);
        let task = async move {
            while delivery.strong_count() != 0 {
                while delivery.upgrade().is_some_and(|hub| hub.deliver_next()) {
                    tokio::task::yield_now().await;
                }
                queued.notified().await;
            }
        };
        (hub, task)
    }

    /// Registers a watcher, or answers it from the history.
    ///
    /// # Errors
    /// The history does not reach back to that index.
    pub fn watch(
        self: &Arc<Hub>,
        spec: WatchSpec,
        history: &impl History,
    ) -> Result<Watch, TreeError> {
        let mut watchers = self.watchers.lock();
        // Before the history is read: an event that is applied after that is queued.
        self.count.fetch_add(1, Ordering::SeqCst);
        let watched = self.register(&mut watchers, spec, history);
        if !watched.as_ref().is_ok_and(Watch::is_registered) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        watched
    }

    fn register(
        self: &Arc<Hub>,
        watchers: &mut Watchers<Channel>,
        spec: WatchSpec,
        history: &impl History,
    ) -> Result<Watch, TreeError> {
        let scan = HistoryScan::run(&spec, history)?;
        let (mut source, mut id) = (Source::Over(WatchEnd::Delivered), 0);
        if scan.waits {
            let (sink, waiting) = channel(spec.stream);
            source = waiting;
            id = watchers.register(&spec, &scan, sink).unwrap_or(0);
        }
        Ok(Watch {
            index: scan.index,
            past: scan.past,
            hub: Arc::clone(self),
            path: spec.path,
            id,
            source,
        })
    }

    /// The number of waiting watchers.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Queues an event of the tree for its watchers. It returns at once unless the queue is full;
    /// then it first delivers events until there is room. Events are published in order, by one
    /// thread at a time.
    pub fn publish(&self, event: &Arc<Event>) {
        if !is_published(event, self.count()) {
            return;
        }
        self.queue.lock().push(Arc::clone(event));
        self.queued.notify_one();
        while self.is_full() && self.deliver_next() {}
    }

    fn is_full(&self) -> bool {
        self.queue.lock().is_full()
    }

    /// Delivers the oldest event of the queue. Returns whether there was one.
    fn deliver_next(&self) -> bool {
        let _delivery = self.delivery.lock();
        let next = self.queue.lock().pop();
        next.is_some_and(|event| {
            let over = self.watchers.lock().deliver(&event);
            self.count.fetch_sub(over, Ordering::SeqCst);
            true
        })
    }

    /// Continues the watches after a snapshot has replaced the tree: the missed events are in the
    /// new history, or the watch is cut off.
    pub fn resume(&self, history: &impl History) {
        let over = self.watchers.lock().resume(history);
        self.count.fetch_sub(over, Ordering::SeqCst);
    }

    /// Ends the watches of a tree that was wrong; `history` is that of the right one. Their clients
    /// watch again.
    pub fn begin_again(&self, history: &impl History) {
        let _delivery = self.delivery.lock();
        let mut queue = self.queue.lock();
        while queue.pop().is_some() {}
        drop(queue);
        let over = self.watchers.lock().begin_again(history);
        self.count.fetch_sub(over, Ordering::SeqCst);
    }

    /// Ends every present and later watch, when the member stops.
    pub fn cut_all(&self) {
        let over = self.watchers.lock().close();
        self.count.fetch_sub(over, Ordering::SeqCst);
    }

    fn forget(&self, path: &Bytes, id: u64) {
        if self.watchers.lock().unregister(path, id) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The task then ends.
        self.queued.notify_one();
    }
}

#[cfg(test)]
mod tests;
