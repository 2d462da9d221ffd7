//! The history: the latest events, for watches that begin at a past index. etcd's `EventHistory`.
//!
//! It is bounded by a number of events, as in etcd, and by their size. Both depend on the events
//! alone, so that the history begins at the same index on every member, after a restart and after a
//! snapshot.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Action, Event, NodeExtern};

/// The maximum number of events, as in etcd.
pub(super) const EVENTS_MAX: usize = 1000;

/// The maximum size of the events, in bytes ([`Event::weight`]). The newest event is always kept:
/// so only an event clears others, and its row names the start of the history. etcd has no such
/// limit: a thousand events with two values of 10 MB each are 20 GB.
pub(crate) const BYTES_MAX: u64 = 64 << 20;

/// A past event, without an encoding: the encodings of a thousand events could take gigabytes.
struct PastEvent {
    event: Event,
    /// The event as shared with readers, and with it an encoding that is made once.
    shared: Mutex<Weak<Event>>,
}

impl PastEvent {
    fn new(event: &Event, shared: Weak<Event>) -> PastEvent {
        PastEvent {
            // `removed` may be a million paths, and is for present watchers only.
            event: Event {
                node: event.node.alone(),
                prev: event.prev.as_ref().map(NodeExtern::alone),
                removed: Vec::new(),
                encoding: Default::default(),
                ..*event
            },
            shared: Mutex::new(shared),
        }
    }

    fn share(&self) -> Arc<Event> {
        let mut shared = self.shared.lock();
        shared.upgrade().unwrap_or_else(|| {
            let event = Arc::new(self.event.clone());
            *shared = Arc::downgrade(&event);
            event
        })
    }

    fn weight(&self) -> u64 {
        self.event.weight() as u64
    }
}

/// The events of the newest consecutive indexes. An index without an event is a change that clients
/// cannot see, or a refresh, which no scan returns.
pub(super) struct EventHistory {
    events: VecDeque<Option<PastEvent>>,
    /// The newest index.
    newest: u64,
    /// The number of indexes with an event.
    count: usize,
    /// The size of the events, and its maximum, in bytes.
    bytes: u64,
    bytes_max: u64,
    /// The number of newest indexes without a row.
    fresh: usize,
    /// The size of their rows, in bytes.
    fresh_bytes: u64,
    /// Whether it has begun anew: then no fresh index need be there for the newest to be another.
    is_anew: bool,
    /// Slots whose rows, if any, are of events that were cleared.
    stale: BTreeSet<u16>,
}

impl Default for EventHistory {
    fn default() -> EventHistory {
        EventHistory::within(BYTES_MAX)
    }
}

impl EventHistory {
    /// An empty history. `bytes_max` must be the same on every member.
    pub(super) fn within(bytes_max: u64) -> EventHistory {
        EventHistory {
            events: VecDeque::new(),
            newest: 0,
            count: 0,
            bytes: 0,
            bytes_max,
            fresh: 0,
            fresh_bytes: 0,
            is_anew: false,
            stale: BTreeSet::new(),
        }
    }

    /// An empty history that ends at `index` and begins at `oldest` at the earliest.
    pub(super) fn since(self, oldest: u64, index: u64) -> EventHistory {
        let reached = index.saturating_add(1).saturating_sub(oldest.max(1));
        let kept = reached.min(EVENTS_MAX as u64) as usize;
        EventHistory {
            events: (0..kept).map(|_| None).collect(),
            newest: index,
            ..self
        }
    }

    /// The index of the last change.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The oldest index of the history; 0 if there was no change.
    pub(super) fn oldest(&self) -> u64 {
        match self.events.len() as u64 {
            0 => 0,
            kept => self.newest - kept + 1,
        }
    }

    /// Advances the index, and adds its event.
    pub(super) fn push(&mut self, event: Option<&Arc<Event>>) {
        let event = event.filter(|event| !event.refresh);
        let past = event.map(|event| PastEvent::new(event, Arc::downgrade(event)));
        if self.events.len() == EVENTS_MAX {
            self.clear_oldest();
        }
        self.newest += 1;
        self.fresh += 1;
        if let Some(past) = &past {
            self.count += 1;
            self.bytes += past.weight();
            self.fresh_bytes += past.weight();
            // The row of the slot's former event is overwritten.
            self.stale.remove(&slot(self.newest));
        }
        self.events.push_back(past);
        self.clear_to_fit();
    }

    /// Advances the index to `index` by changes without events; it does not go back.
    pub(super) fn advance(&mut self, index: u64) {
        if EVENTS_MAX as u64 <= index.saturating_sub(self.newest) {
            self.restart(index);
        }
        while self.newest < index {
            self.push(None);
        }
    }

    /// Begins anew at an index, which may be lower, as after as many changes without events.
    pub(super) fn restart(&mut self, index: u64) {
        while !self.events.is_empty() {
            self.clear_oldest();
        }
        let before = index.min(EVENTS_MAX as u64);
        self.newest = index - before;
        self.is_anew = true;
        (0..before).for_each(|_| self.push(None));
    }

    fn clear_to_fit(&mut self) {
        while self.bytes_max < self.bytes && 1 < self.count {
            self.clear_oldest();
        }
    }

    fn clear_oldest(&mut self) {
        let index = self.oldest();
        let cleared = self.events.pop_front().flatten();
        let had_row = self.fresh <= self.events.len();
        self.fresh = self.fresh.min(self.events.len());
        if let Some(past) = cleared {
            self.count -= 1;
            self.bytes -= past.weight();
            self.stale.insert(slot(index));
            if !had_row {
                self.fresh_bytes -= past.weight();
            }
        }
    }

    /// Restores events at their indexes. Rows of earlier releases may be of refreshes, or exceed
    /// the limit: they are cleared as if this release had always run.
    pub(super) fn restore(&mut self, events: Vec<Event>) {
        for event in events {
            let at = event.index.checked_sub(self.oldest());
            let at = at.and_then(|at| usize::try_from(at).ok());
            let place = at.and_then(|at| self.events.get_mut(at));
            match place.filter(|_| !event.refresh) {
                Some(place) => {
                    let past = PastEvent::new(&event, Weak::new());
                    self.count += 1;
                    self.bytes += past.weight();
                    *place = Some(past);
                }
                None => {
                    self.stale.insert(slot(event.index));
                }
            }
        }
        let before = self.count;
        self.clear_to_fit();
        if self.count < before {
            // No row names the new start: all are written again.
            (self.fresh, self.fresh_bytes) = (self.events.len(), self.bytes);
        }
    }

    /// The events from an index on.
    pub(super) fn from(&self, index: u64) -> impl Iterator<Item = &Event> {
        self.past(index).map(|past| &past.event)
    }

    /// The first event from an index on that concerns the path, or a path below it if recursive.
    pub(super) fn find(&self, path: &[u8], recursive: bool, since: u64) -> Option<Arc<Event>> {
        let mut past = self.past(since);
        let found = past.find(|past| matches(&past.event, path, recursive));
        found.map(PastEvent::share)
    }

    fn past(&self, index: u64) -> impl Iterator<Item = &PastEvent> {
        let skipped = index.saturating_sub(self.oldest());
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped).flatten()
    }

    /// The number of rows out of date, and their size in bytes.
    pub(super) fn fresh(&self) -> (usize, u64) {
        let rows = self.fresh + self.stale.len();
        (rows.max(self.is_anew.into()), self.fresh_bytes)
    }

    /// The events without a row.
    pub(super) fn fresh_events(&self) -> impl Iterator<Item = &Event> {
        let skipped = self.events.len() - self.fresh;
        let fresh = self.events.iter().skip(skipped).flatten();
        fresh.map(|past| &past.event)
    }

    /// The slots whose rows must be deleted.
    pub(super) fn stale_slots(&self) -> impl Iterator<Item = u16> {
        self.stale.iter().copied()
    }

    /// Marks all rows as up to date.
    pub(super) fn cleaned(&mut self) {
        (self.fresh, self.fresh_bytes, self.is_anew) = (0, 0, false);
        self.stale.clear();
    }
}

/// The slot of an event's row in the engine; later events reuse it.
pub(super) fn slot(index: u64) -> u16 {
    (index % EVENTS_MAX as u64) as u16
}

/// Whether a scan for the path finds a past event. The rule differs from that of present watchers:
/// hidden nodes count, and a removed directory concerns every path of which its own is a prefix
/// (etcd's `EventHistory.scan`).
fn matches(event: &Event, path: &[u8], recursive: bool) -> bool {
    let key = &event.node.key[..];
    if key == path {
        return true;
    }
    if recursive && is_below(key, path) {
        return true;
    }
    let ended = matches!(event.action, Action::Delete | Action::Expire);
    let dir = event.prev.as_ref().filter(|prev| ended && prev.dir);
    dir.is_some_and(|dir| path.starts_with(&dir.key))
}

fn is_below(key: &[u8], dir: &[u8]) -> bool {
    let rest = key.strip_prefix(super::path::stem(dir));
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}
