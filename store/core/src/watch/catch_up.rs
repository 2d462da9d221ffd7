//! Watchers that are behind: they read the events of past revisions in bounded steps.
//!
//! Recent revisions are in the hub's memory, shared by all streams. Older ones are read from the
//! rows: for watchers of single keys by the key index, for all others in one scan, as etcd does for
//! its unsynced watchers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::message::SentEvent;
use super::pairs::RecentPairs;
use super::{RevisionEvents, WatchRange, WatchStream};
use crate::state::{Error, EventBudget, EventSpan, ReadView};

/// The maximum size of one step, in bytes; one revision may exceed it.
pub const HISTORY_STEP_BYTES: usize = 256 << 10;
/// The maximum number of watchers in one step, as in etcd.
const WATCHERS_PER_STEP: usize = 512;
/// The maximum number of messages' events in one step; one revision may exceed it.
const EVENTS_PER_STEP: usize = 16_384;

impl WatchStream {
    /// Whether any watcher has to read the history.
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Allows or forbids reads of the history. While they are forbidden, watchers that are behind
    /// get nothing. A step has [`HISTORY_STEP_BYTES`], and none begins while the messages of
    /// another one wait.
    pub fn allow_history(&mut self, allowed: bool) {
        self.may_read_history = allowed;
    }

    /// Reads a step of the history, if that is allowed. Returns whether any watcher was behind.
    pub(super) fn read_history(&mut self) -> Result<bool, Error> {
        match self.may_read_history {
            true => self.catch_up(),
            false => Ok(false),
        }
    }

    /// Advances some of the watchers that are behind by one step. Returns whether any was behind.
    fn catch_up(&mut self) -> Result<bool, Error> {
        let mut slots = self.next_behind();
        let Some(first) = self.first_needed(&slots) else {
            return Ok(false);
        };
        let settled = self.hub.settled();
        let view = self.hub.view();
        if view.is_fenced() {
            return Ok(false);
        }
        if let Some(span) = self.hub.recent(first, HISTORY_STEP_BYTES) {
            slots.sort_unstable();
            let hub = Arc::clone(&self.hub);
            self.advance(&slots, &span, settled, &view, Some(&hub.pairs))?;
            return Ok(true);
        }
        self.keep_one_kind(&mut slots);
        slots.sort_unstable();
        let first = self.first_needed(&slots).unwrap_or(first);
        let upto = view.revision();
        let step = EventBudget {
            rows: self.hub.history_rows(),
            bytes: HISTORY_STEP_BYTES,
        };
        let span = match self.only_key(&slots) {
            Some(key) => view.key_events(&key, first, upto, step),
            None => view.events(first, upto, step, &|key| self.index.contains(key)),
        };
        // After the read: a compaction in between may have deleted rows.
        let compacted = view.compact_revision();
        let lost: Vec<_> = slots
            .iter()
            .filter(|slot| self.watchers[**slot].next < compacted)
            .copied()
            .collect();
        if !lost.is_empty() {
            for slot in lost {
                self.compacted(slot, compacted);
            }
            return Ok(true);
        }
        // No other stream has these events.
        self.advance(&slots, &span?, settled, &view, None)?;
        Ok(true)
    }

    /// The watchers of the next step, in turn.
    fn next_behind(&mut self) -> Vec<usize> {
        let after = self.last_behind + 1;
        let turn = self.behind.range(after..).chain(self.behind.range(..after));
        let slots: Vec<usize> = turn.take(WATCHERS_PER_STEP).copied().collect();
        self.last_behind = slots.last().copied().unwrap_or(0);
        slots
    }

    /// The first revision that any of the watchers needs.
    fn first_needed(&self, slots: &[usize]) -> Option<i64> {
        slots.iter().map(|slot| self.watchers[*slot].next).min()
    }

    /// Keeps the watchers that can read the rows together: those of the first one's single key, at
    /// the same revision, or all of ranges. The others have a later turn.
    fn keep_one_kind(&mut self, slots: &mut Vec<usize>) {
        let Some(first) = slots.first().copied() else {
            return;
        };
        if self.key_of(first).is_some() {
            let next = self.watchers[first].next;
            slots.retain(|slot| {
                self.range_of(*slot) == self.range_of(first) && self.watchers[*slot].next == next
            });
        } else {
            slots.retain(|slot| self.key_of(*slot).is_none());
        }
        // The turn goes on behind the first one.
        self.last_behind = first;
    }

    fn range_of(&self, slot: usize) -> usize {
        self.watchers[slot].range
    }

    fn key_of(&self, slot: usize) -> Option<&Bytes> {
        match &self.ranges[self.range_of(slot)].range {
            WatchRange::Key(key) => Some(key),
            WatchRange::Span(..) => None,
        }
    }

    /// The key, if all of these watchers have the same one.
    fn only_key(&self, slots: &[usize]) -> Option<Bytes> {
        self.key_of(*slots.first()?).cloned()
    }

    /// Sends the events of a span to these watchers, and moves them to its end. `settled` is the
    /// revision up to which the mailbox may have lost revisions, or have given them out already:
    /// behind it, the mailbox has all.
    fn advance(
        &mut self,
        slots: &[usize],
        span: &EventSpan,
        settled: i64,
        view: &ReadView,
        recent: Option<&RecentPairs>,
    ) -> Result<(), Error> {
        let mut sent: BTreeMap<usize, Vec<SentEvent>> = BTreeMap::new();
        // Of the pairs before: the span's own size has been bounded already.
        let mut bytes = 0;
        let (mut count, mut next) = (0, span.next);
        for revision in &span.revisions {
            if EVENTS_PER_STEP <= count || HISTORY_STEP_BYTES <= bytes {
                next = revision.revision;
                break;
            }
            for slot in self.concerned(slots, revision) {
                let events = self.wanted(slot, revision, view, recent)?;
                count += events.len();
                let previous = events.iter().filter_map(|event| event.previous.as_ref());
                bytes += previous.map(|pair| pair.len()).sum::<usize>();
                if !events.is_empty() {
                    sent.entry(slot).or_default().extend(events);
                }
            }
        }
        for (slot, events) in sent {
            self.send(slot, events);
        }
        for slot in slots {
            let watcher = &mut self.watchers[*slot];
            watcher.next = watcher.next.max(next);
            if settled < watcher.next {
                watcher.is_behind = false;
                self.behind.remove(slot);
            }
        }
        Ok(())
    }

    /// Those of the watchers, which are sorted, that may need an event of the revision.
    fn concerned(&self, slots: &[usize], revision: &Arc<RevisionEvents>) -> Vec<usize> {
        let needs = |slot: &&usize| self.watchers[**slot].next <= revision.revision;
        if slots.len() <= 2 {
            return slots.iter().filter(needs).copied().collect();
        }
        let mut found = Vec::new();
        for event in &revision.events {
            self.index.visit(&event.key, &mut |number| {
                found.extend(&self.ranges[*number].watchers);
            });
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|slot| slots.binary_search(slot).is_ok() && needs(&slot));
        found
    }
}
