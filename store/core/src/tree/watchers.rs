//! The watchers of the v2 tree: what each of them is sent, from the history and from then on.
//!
//! A watcher first scans the history ([`HistoryScan`]); what it still waits for then is registered
//! ([`Watchers::register`]) and comes with [`Watchers::deliver`]. The caller keeps two rules:
//!
//! - Events are delivered in the order of their indexes, and each that is applied while there is a
//!   watcher, or one that is about to look, is queued ([`EventQueue`]). So a watcher is counted
//!   before it looks: what is applied after the look is delivered, and what was applied before is
//!   in the history.
//! - No event is delivered between a watcher's look and its entry.
//!
//! Where the events go to is the caller's [`Sink`]. All watchers share one `Arc` of an event.

mod queue;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Event;
pub use queue::{EventQueue, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX, is_published};
pub use scan::{History, HistoryScan, WatchSpec};

/// Events that a stream may be behind; etcd's figure.
pub const STREAM_EVENTS_MAX: usize = 100;

/// What those may weigh, in bytes ([`Event::node_bytes`]). One is taken in any case. etcd has no
/// such bound: a client that does not read could hold a hundred events with two values of 10 MB
/// each.
pub const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where the events of a watcher go. It is dropped when the watch is over.
pub trait Sink {
    /// How many events its client has not taken yet, and what they weigh ([`Event::node_bytes`]).
    /// For streams only.
    fn unread(&self) -> (usize, usize);

    /// Hands an event over. Returns whether the client is still there.
    fn send(&mut self, event: &Arc<Event>) -> bool;

    /// The stream ends after what was sent: its client is too far behind.
    fn end_behind(&mut self);
}

/// One watcher at its path.
struct Watcher<S> {
    /// The first index of interest from now on.
    since: u64,
    recursive: bool,
    stream: bool,
    sink: S,
}

/// The watchers of a member that wait for events.
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
    /// Registers a watcher that waits after its look. Returns its number at its path, from 1
    /// on, for [`Watchers::forget`]; `None`, and drops the sink, if the member has stopped.
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

    /// Sends an event to those that it concerns. Returns how many watches are over by it.
    pub fn deliver(&mut self, event: &Arc<Event>) -> usize {
        // It was delivered from a snapshot's history.
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

    /// Delivers an event to those at one path. Returns how many watches are over.
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

    /// The tree was replaced by another member's, which is further: what was missed is delivered
    /// from its history. Where that does not reach back far enough an event may be missing, and the
    /// watch is cut: its client watches again, and gets etcd's 401. Returns how many watches are
    /// over.
    pub fn resume(&mut self, history: &impl History) -> usize {
        let index = history.index();
        let (delivered, mut over) = (self.delivered, 0);
        for (path, here) in &mut self.by_path {
            let before = here.len();
            here.retain(|_, watcher| watcher.catch_up(path, delivered, history));
            over += before - here.len();
        }
        self.by_path.retain(|_, here| !here.is_empty());
        // Events up to this one that are queued still were delivered from the history.
        self.delivered = delivered.max(index);
        over
    }

    /// A client has left. Returns whether its watch was not over before.
    pub fn forget(&mut self, path: &Bytes, id: u64) -> bool {
        let Some(here) = self.by_path.get_mut(path) else {
            return false;
        };
        let was_there = here.remove(&id).is_some();
        if here.is_empty() {
            self.by_path.remove(path);
        }
        was_there
    }

    /// Ends every watch, also those that come later: the member has stopped. Returns how many.
    pub fn close(&mut self) -> usize {
        self.closed = true;
        let cut = std::mem::take(&mut self.by_path);
        cut.values().map(BTreeMap::len).sum()
    }

    /// Whether no watcher waits.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }
}

impl<S: Sink> Watcher<S> {
    /// Hands an event over. Returns whether the watcher stays.
    fn take(&mut self, event: &Arc<Event>) -> bool {
        self.since = event.index + 1;
        if !self.stream {
            // The client may be gone.
            self.sink.send(event);
            return false;
        }
        if is_too_far_behind(self.sink.unread(), event) {
            self.sink.end_behind();
            return false;
        }
        self.sink.send(event)
    }

    /// Delivers what the history has after the events that were delivered. Returns whether the
    /// watcher stays.
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

/// Where the paths of a key's ancestors end: 0 for the root, then each before a slash.
fn ends_of_ancestors(key: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at)
}

/// Whether a live watcher of the path could be sent an event of that key, which a scan of the
/// history has found for it. The scan finds hidden nodes as well, and takes a deleted directory for
/// an ancestor of every path that begins with the same letters.
fn may_concern(path: &[u8], key: &[u8]) -> bool {
    match path.strip_prefix(key) {
        Some(below) => below.is_empty() || below.starts_with(b"/") || key == b"/",
        None => !is_hidden_below(path, key),
    }
}

/// Whether there is a hidden name between a watched path and a key below it.
fn is_hidden_below(path: &[u8], key: &[u8]) -> bool {
    let below = key.get(path.len()..).unwrap_or_default();
    let after_root = path == b"/" && below.starts_with(b"_");
    after_root || below.windows(2).any(|pair| pair == b"/_")
}

#[cfg(test)]
mod tests;
