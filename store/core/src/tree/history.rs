//! The last events, for those who watch from an index on.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Action, Event};

/// How many events are kept, all keys together, as in etcd.
pub(super) const EVENTS_MAX: usize = 1000;

/// The events of the newest indexes, without a gap. An index without an event is a change that
/// clients cannot see.
#[derive(Default)]
pub(super) struct History {
    events: VecDeque<Option<Arc<Event>>>,
    /// The index of the last one.
    newest: u64,
    /// How many of them have no row yet.
    fresh: usize,
    /// What those rows weigh, roughly.
    fresh_bytes: u64,
}

impl History {
    /// As it is at that index, without any event.
    pub(super) fn at(index: u64) -> History {
        let kept = index.min(EVENTS_MAX as u64) as usize;
        History {
            events: (0..kept).map(|_| None).collect(),
            newest: index,
            ..History::default()
        }
    }

    /// The index of the last change.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The oldest index it reaches back to; 0 if nothing has ever happened.
    pub(super) fn oldest(&self) -> u64 {
        match self.events.len() as u64 {
            0 => 0,
            kept => self.newest - kept + 1,
        }
    }

    /// The next index, and what happened.
    pub(super) fn push(&mut self, event: Option<Arc<Event>>) {
        assert!(self.events.len() <= EVENTS_MAX);
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.newest += 1;
        self.fresh = EVENTS_MAX.min(self.fresh + 1);
        self.fresh_bytes += event.as_deref().map_or(0, |event| event.weight() as u64);
        self.events.push_back(event);
    }

    /// Puts an event where its index says; `None` if the history does not reach there.
    pub(super) fn restore(&mut self, event: Arc<Event>) -> Option<()> {
        let at = event.index.checked_sub(self.oldest())?;
        let slot = self.events.get_mut(usize::try_from(at).ok()?)?;
        *slot = Some(event);
        Some(())
    }

    /// The events from an index on.
    pub(super) fn from(&self, index: u64) -> impl Iterator<Item = &Arc<Event>> {
        let skipped = index.saturating_sub(self.oldest());
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped).flatten()
    }

    /// How many rows are out of date, and what they weigh, roughly.
    pub(super) fn fresh(&self) -> (usize, u64) {
        (self.fresh, self.fresh_bytes)
    }

    /// The events that have no row yet.
    pub(super) fn fresh_events(&self) -> impl Iterator<Item = &Arc<Event>> {
        let skipped = self.events.len() - self.fresh;
        self.events.iter().skip(skipped).flatten()
    }

    /// The rows are up to date.
    pub(super) fn cleaned(&mut self) {
        (self.fresh, self.fresh_bytes) = (0, 0);
    }
}

/// Whether whoever watches that path is told of an event of the past. Not quite what he would have
/// been told while it happened: hidden nodes count, and the end of a directory is the end of
/// every path that begins with the same letters (etcd's `EventHistory.scan`).
pub(super) fn matches(event: &Event, path: &[u8], recursive: bool) -> bool {
    if event.refresh {
        return false;
    }
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
