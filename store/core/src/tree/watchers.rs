//! The watchers of the v2 tree: which past and future events each one is sent.
//!
//! A watcher first scans the history ([`HistoryScan`]). If it waits for more, it is registered
//! ([`Watchers::register`]) and gets events by [`Watchers::deliver`]. The caller keeps two rules:
//!
//! - Events are delivered in the order of their indexes. Each event that is applied while a watcher
//!   exists, or is about to scan, is queued ([`EventQueue`]). So a watcher is counted before its
//!   scan: events applied after the scan are delivered, and earlier ones are in the history.
//! - No event is delivered between a watcher's scan and its registration.
//!
//! The caller's [`Sink`] receives the events. All watchers share one `Arc` of an event.

mod queue;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Event;
pub use queue::{EventQueue, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX, is_published};
pub use scan::{History, HistoryScan, WatchSpec};

/// The maximum number of unread events of a stream, as in etcd.
pub const STREAM_EVENTS_MAX: usize = 100;

/// The maximum size of those events, in bytes ([`Event::node_bytes`]); a single event may exceed
/// it. etcd has no such limit: a client that does not read could hold a hundred events with two
/// values of 10 MB each.
pub const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The destination of a watcher's events. It is dropped when the watch ends.
pub trait Sink {
    /// The number of events that the client has not read, and their size ([`Event::node_bytes`]).
    /// Used for streams only.
    fn unread(&self) -> (usize, usize);

    /// Sends an event. Returns whether the client is still connected.
    fn send(&mut self, event: &Arc<Event>) -> bool;

    /// Ends the stream after the events sent so far: its client is too slow.
    fn end_behind(&mut self);
}

/// A registered watcher.
struct Watcher<S> {
    /// The first index that it still needs.
    since: u64,
    recursive: bool,
    stream: bool,
    sink: S,
}

/// The registered watchers of a member.
pub struct Watchers<S> {
    by_path: BTreeMap<Bytes, BTreeMap<u64, Watcher<S>>>,
    last_id: u64,
    /// The index up to which all events were delivered.
    delivered: u64,
    /// The member has stopped.
    closed: bool,
}

impl<S> Default for Watchers<S> {
    fn default() -> Watchers<S> {
        Watchers {
            by_path: BTreeMap::new(),
            last_id: 0,
            delivered: 0,
            closed: false,
        }
    }
}

impl<S: Sink> Watchers<S> {
    /// Registers a watcher that waits after its scan. Returns its number at its path, from 1 on,
    /// for [`Watchers::unregister`]. If the member has stopped, it drops the sink and returns
    /// `None`.
    pub fn register(&mut self, spec: &WatchSpec, scan: &HistoryScan, sink: S) -> Option<u64> {
        if self.closed {
            return None;
        }
        self.last_id += 1;
        let watcher = Watcher {
            since: scan.since,
            recursive: spec.recursive,
            stream: spec.stream,
            sink,
        };
        let here = self.by_path.entry(spec.path.clone()).or_default();
        here.insert(self.last_id, watcher);
        Some(self.last_id)
    }

    /// Sends an event to the watchers that it concerns. Returns how many watches it ends.
    pub fn deliver(&mut self, event: &Arc<Event>) -> usize {
        // Already delivered, from a snapshot's history.
        if event.index <= self.delivered {
            return 0;
        }
        self.delivered = event.index;
        let key = &event.node.key;
        let mut over = 0;
        for path in &event.removed {
            over += self.deliver_at(path, event, |_| true);
        }
        for end in ends_of_ancestors(key).chain([key.len()]) {
            let path = &key[..end.max(1)];
            let is_key = path.len() == key.len();
            if is_key || !is_hidden_below(path, key) {
                over += self.deliver_at(path, event, |watcher| watcher.recursive || is_key);
            }
        }
        over
    }

    /// Sends an event to the watchers of one path. Returns how many watches it ends.
    fn deliver_at(
        &mut self,
        path: &[u8],
        event: &Arc<Event>,
        concerned: impl Fn(&Watcher<S>) -> bool,
    ) -> usize {
        let Some(here) = self.by_path.get_mut(path) else {
            return 0;
        };
        let before = here.len();
        here.retain(|_, watcher| {
            let takes_it = watcher.since <= event.index && concerned(watcher);
            !takes_it || watcher.take(event)
        });
        let over = before - here.len();
        if here.is_empty() {
            self.by_path.remove(path);
        }
        over
    }

    /// A snapshot has replaced the tree: delivers the events that watchers missed from its history.
    /// If the history does not reach back far enough, an event may be missing, and the watch is
    /// ended: its client watches again, and gets etcd's error 401. Returns how many watches are
    /// ended.
    pub fn resume(&mut self, history: &impl History) -> usize {
        let index = history.index();
        let (delivered, mut over) = (self.delivered, 0);
        for (path, here) in &mut self.by_path {
            let before = here.len();
            here.retain(|_, watcher| watcher.catch_up(path, delivered, history));
            over += before - here.len();
        }
        self.by_path.retain(|_, here| !here.is_empty());
        // Queued events up to this index were delivered from the history.
        self.delivered = delivered.max(index);
        over
    }

    /// Removes the watcher of a client that has left. Returns whether its watch was still active.
    pub fn unregister(&mut self, path: &Bytes, id: u64) -> bool {
        let Some(here) = self.by_path.get_mut(path) else {
            return false;
        };
        let was_there = here.remove(&id).is_some();
        if here.is_empty() {
            self.by_path.remove(path);
        }
        was_there
    }

    /// Ends every watch: the tree was wrong. Events up to the history's index are not delivered.
    /// Returns their number.
    pub fn begin_again(&mut self, history: &impl History) -> usize {
        self.delivered = history.index();
        let cut = std::mem::take(&mut self.by_path);
        cut.values().map(BTreeMap::len).sum()
    }

    /// Ends every watch, and all later ones: the member has stopped. Returns their number.
    pub fn close(&mut self) -> usize {
        self.closed = true;
        let cut = std::mem::take(&mut self.by_path);
        cut.values().map(BTreeMap::len).sum()
    }

    /// Whether no watcher is registered.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }
}

impl<S: Sink> Watcher<S> {
    /// Sends an event. Returns whether the watcher stays registered.
    fn take(&mut self, event: &Arc<Event>) -> bool {
        self.since = event.index + 1;
        if !self.stream {
            // The client may have left.
            self.sink.send(event);
            return false;
        }
        if is_too_far_behind(self.sink.unread(), event) {
            self.sink.end_behind();
            return false;
        }
        self.sink.send(event)
    }

    /// Sends the events of the history after index `delivered`. Returns whether the watcher stays
    /// registered.
    fn catch_up(&mut self, path: &[u8], delivered: u64, history: &impl History) -> bool {
        let mut since = self.since.max(delivered.saturating_add(1));
        loop {
            match history.scan(path, self.recursive, since) {
                Ok(Some(event)) => {
                    since = event.index + 1;
                    if may_concern(path, &event.node.key) && !self.take(&event) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

fn is_too_far_behind((events, bytes): (usize, usize), event: &Event) -> bool {
    let too_large = 0 < bytes && STREAM_BYTES_MAX < bytes.saturating_add(event.node_bytes());
    STREAM_EVENTS_MAX <= events || too_large
}

/// The ends of the paths of a key's ancestors: 0 for the root, then the position of each slash.
fn ends_of_ancestors(key: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at)
}

/// Whether a watcher of the path would be sent an event of that key, which a scan of the history
/// has found. The scan also finds hidden nodes, and treats a deleted directory as an ancestor of
/// every path of which its own is a prefix.
fn may_concern(path: &[u8], key: &[u8]) -> bool {
    match path.strip_prefix(key) {
        Some(below) => below.is_empty() || below.starts_with(b"/") || key == b"/",
        None => !is_hidden_below(path, key),
    }
}

/// Whether a name between a watched path and a key below it is hidden.
fn is_hidden_below(path: &[u8], key: &[u8]) -> bool {
    let below = key.get(path.len()..).unwrap_or_default();
    let after_root = path == b"/" && below.starts_with(b"_");
    after_root || below.windows(2).any(|pair| pair == b"/_")
}

#[cfg(test)]
mod tests;
