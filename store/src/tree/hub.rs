//! The watchers of the v2 tree, and the events on their way to them.
//!
//! Events come from the applier through a bounded queue and are fanned out by one task, so that ten
//! thousand watchers do not hold up the log. While the queue is full, each event that comes costs the
//! applier the fan-out of the oldest one (of several if it is large), as every event costs etcd's: no
//! event is dropped, watchers of other paths lose nothing, and the log does not stand still until the
//! queue is empty. All watchers share one `Arc` of an event. Only a stream that is 100 events behind
//! ends, as in etcd, or 64 MiB: its client watches again and reads the history.

mod watch;
mod watcher;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use keelson_core::tree::{Event, TreeError};
use parking_lot::Mutex;
use tokio::sync::Notify;

use watch::Source;
pub use watch::{End, Watch};
use watcher::{Watcher, channel};

/// Events that wait for the fan-out task: fewer than this, or the publisher fans out the oldest.
const QUEUE: usize = 4096;

/// What those may weigh together, roughly, in bytes.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// What a watcher asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The whole path, clean: "/1/foo".
    pub path: Bytes,
    /// Everything below it too.
    pub recursive: bool,
    /// More than the first event.
    pub stream: bool,
    /// The first index of interest; 0 is the next change.
    pub since: u64,
}

/// What the hub must know of the tree while it registers a watcher.
pub trait History {
    /// The tree's index now.
    fn index(&self) -> u64;

    /// The first event at or after `since`, if it has happened.
    ///
    /// # Errors
    /// The history does not reach back that far.
    fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Event>>, TreeError>;
}

/// The watchers of a member.
pub struct Hub {
    watchers: Mutex<Watchers>,
    /// How many there are: asked for every change.
    count: AtomicUsize,
    queue: Mutex<Queue>,
    /// Wakes the fan-out task.
    queued: Arc<Notify>,
    /// Held while an event leaves the queue and is fanned out, so that events keep their order. Taken
    /// before the other locks.
    turn: Mutex<()>,
}

/// Events in the order of their indexes.
#[derive(Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(event);
    }

    fn is_full(&self) -> bool {
        QUEUE <= self.events.len() || QUEUE_BYTES <= self.bytes
    }

    fn pop(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.weight();
        Some(event)
    }
}

#[derive(Default)]
struct Watchers {
    by_path: HashMap<Bytes, BTreeMap<u64, Watcher>>,
    last_id: u64,
    /// The member has stopped.
    closed: bool,
}

impl Hub {
    /// A hub, and the task that has to run for it.
    pub fn new() -> (Arc<Hub>, impl Future<Output = ()> + Send + 'static) {
        let queued = Arc::<Notify>::default();
        let hub = Arc::new(Hub {
            watchers: Mutex::default(),
            count: AtomicUsize::new(0),
            queue: Mutex::default(),
            queued: Arc::clone(&queued),
            turn: Mutex::default(),
        });
        let fanning = Arc::downgrade(&hub);
        let task = async move {
            while fanning.strong_count() != 0 {
                while fanning.upgrade().is_some_and(|hub| hub.fan_out_next()) {
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
    /// The history does not reach back that far.
    pub fn watch(self: &Arc<Hub>, wish: Wish, history: &impl History) -> Result<Watch, TreeError> {
        let mut watchers = self.watchers.lock();
        // Before the look at the history: whatever happens after that look is published for somebody.
        self.count.fetch_add(1, Ordering::SeqCst);
        let watched = self.register(&mut watchers, wish, history);
        if !watched.as_ref().is_ok_and(Watch::is_registered) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        if watchers.closed {
            self.cut(&mut watchers);
        }
        watched
    }

    fn register(
        self: &Arc<Hub>,
        watchers: &mut Watchers,
        wish: Wish,
        history: &impl History,
    ) -> Result<Watch, TreeError> {
        let index = history.index();
        let mut since = match wish.since {
            0 => index + 1,
            since => since,
        };
        let mut past = Vec::new();
        while let Some(event) = history.scan(&wish.path, wish.recursive, since)? {
            since = event.index + 1;
            past.push(event);
            if !wish.stream {
                break;
            }
        }
        past.reverse();
        let mut watch = Watch {
            index,
            past,
            hub: Arc::clone(self),
            path: wish.path,
            id: 0,
            source: Source::Over(End::Delivered),
        };
        if watch.past.is_empty() || wish.stream {
            let (sink, source) = channel(wish.stream);
            watch.source = source;
            watchers.last_id += 1;
            watch.id = watchers.last_id;
            let watcher = Watcher {
                recursive: wish.recursive,
                since,
                sink,
            };
            let here = watchers.by_path.entry(watch.path.clone()).or_default();
            here.insert(watch.id, watcher);
        }
        Ok(watch)
    }

    /// How many watchers wait.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The tree has changed; its watchers get the event. Returns at once, but for a full queue, of which
    /// as many events are fanned out as have no room. Events are published in order, by one thread at a
    /// time.
    pub fn publish(&self, event: &Arc<Event>) {
        if self.count() == 0 || event.refresh {
            return;
        }
        self.queue.lock().push(Arc::clone(event));
        self.queued.notify_one();
        while self.is_full() && self.fan_out_next() {}
    }

    fn is_full(&self) -> bool {
        self.queue.lock().is_full()
    }

    /// Fans out the oldest event of the queue. Returns whether there was one.
    fn fan_out_next(&self) -> bool {
        let _turn = self.turn.lock();
        let next = self.queue.lock().pop();
        next.is_some_and(|event| {
            self.fan_out(&event);
            true
        })
    }

    /// The tree was replaced by another member's, which is further: what has been missed is in its
    /// history, or the watcher is cut off.
    pub fn resume(&self, history: &impl History) {
        let mut watchers = self.watchers.lock();
        let mut gone = 0;
        for (path, here) in &mut watchers.by_path {
            let before = here.len();
            here.retain(|_, watcher| catch_up(path, watcher, history));
            gone += before - here.len();
        }
        watchers.by_path.retain(|_, here| !here.is_empty());
        self.count.fetch_sub(gone, Ordering::SeqCst);
    }

    /// Ends every watch, also those that come later: the member has stopped.
    pub fn cut_all(&self) {
        let mut watchers = self.watchers.lock();
        watchers.closed = true;
        self.cut(&mut watchers);
    }

    fn cut(&self, watchers: &mut Watchers) {
        let cut = std::mem::take(&mut watchers.by_path);
        let gone = cut.values().map(BTreeMap::len).sum();
        self.count.fetch_sub(gone, Ordering::SeqCst);
    }

    fn fan_out(&self, event: &Arc<Event>) {
        let mut watchers = self.watchers.lock();
        let key = &event.node.key;
        let mut gone = 0;
        for path in &event.removed {
            gone += watchers.tell(path, event, |_| true);
        }
        for end in ends_of_ancestors(key).chain([key.len()]) {
            let path = &key[..end.max(1)];
            let is_key = path.len() == key.len();
            if is_key || !is_hidden_below(path, key) {
                gone += watchers.tell(path, event, |watcher| watcher.recursive || is_key);
            }
        }
        self.count.fetch_sub(gone, Ordering::SeqCst);
    }

    fn forget(&self, path: &Bytes, id: u64) {
        let mut watchers = self.watchers.lock();
        let Some(here) = watchers.by_path.get_mut(path) else {
            return;
        };
        if here.remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        if here.is_empty() {
            watchers.by_path.remove(path);
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The fan-out task ends.
        self.queued.notify_one();
    }
}

impl Watchers {
    /// Tells those at one path. Returns how many are done with.
    fn tell(
        &mut self,
        path: &[u8],
        event: &Arc<Event>,
        interested: impl Fn(&Watcher) -> bool,
    ) -> usize {
        let Some(here) = self.by_path.get_mut(path) else {
            return 0;
        };
        let before = here.len();
        here.retain(|_, watcher| {
            let hears = watcher.since <= event.index && interested(watcher);
            !hears || watcher.hear(event)
        });
        let gone = before - here.len();
        if here.is_empty() {
            self.by_path.remove(path);
        }
        gone
    }
}

fn catch_up(path: &[u8], watcher: &mut Watcher, history: &impl History) -> bool {
    loop {
        match history.scan(path, watcher.recursive, watcher.since) {
            Ok(Some(event)) => {
                if !watcher.hear(&event) {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Where the paths of a key's ancestors end: 0 for the root, then each before a slash.
fn ends_of_ancestors(key: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at)
}

/// Whether there is a hidden name between a watched path and a key below it.
fn is_hidden_below(path: &[u8], key: &[u8]) -> bool {
    let below = key.get(path.len()..).unwrap_or_default();
    let after_root = path == b"/" && below.starts_with(b"_");
    after_root || below.windows(2).any(|pair| pair == b"/_")
}

#[cfg(test)]
mod tests;
