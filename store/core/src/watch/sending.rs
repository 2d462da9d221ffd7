//! From a delivered revision to the messages of its watchers.

use std::ops::Bound;
use std::sync::Arc;

use super::message::{SentEvent, WatchContent, WatchMessage};
use super::pairs::RecentPairs;
use super::{RevisionEvents, WatchEvent, WatchStream, encode};
use crate::state::{Error, ReadView};

impl WatchStream {
    /// Sends the revision to the next watcher of its range.
    pub(super) fn send_to_one(&mut self) -> Result<(), Error> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        let range = self.ranges.get(sending.delivery.range);
        let after = sending.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = range.and_then(|range| {
            let mut rest = range.watchers.range((after, Bound::Unbounded));
            rest.next().copied()
        });
        let Some(slot) = next else {
            self.sending = None;
            return Ok(());
        };
        let revision = Arc::clone(&sending.delivery.revision);
        let watcher = &self.watchers[slot];
        if !watcher.is_behind && watcher.next <= revision.revision {
            let view = self.hub.view();
            let events = self.wanted(slot, &revision, &view, Some(&self.hub.pairs))?;
            self.watchers[slot].next = revision.revision + 1;
            self.send(slot, events);
        }
        // Not before: after an error the watcher still needs the revision.
        if let Some(sending) = &mut self.sending {
            sending.last = Some(slot);
        }
        Ok(())
    }

    /// The events of the revision for that watcher. `recent` keeps the pairs before that are read.
    pub(super) fn wanted(
        &self,
        slot: usize,
        revision: &Arc<RevisionEvents>,
        view: &ReadView,
        recent: Option<&RecentPairs>,
    ) -> Result<Vec<SentEvent>, Error> {
        let watcher = &self.watchers[slot];
        let range = &self.ranges[watcher.range].range;
        let wants = |event: &WatchEvent| match event.is_delete {
            true => watcher.deletes,
            false => watcher.puts,
        };
        let mut sent = Vec::new();
        for (at, event) in revision.events.iter().enumerate() {
            if !wants(event) || !range.contains(&event.key) {
                continue;
            }
            let previous = match watcher.previous && !event.is_create {
                true => event.previous(recent, || view.previous(&event.key, revision.revision))?,
                false => None,
            };
            sent.push(SentEvent {
                revision: Arc::clone(revision),
                at,
                previous,
            });
        }
        Ok(sent)
    }

    /// Sends events to a watcher, in fragments if that is allowed and necessary.
    pub(super) fn send(&mut self, slot: usize, mut events: Vec<SentEvent>) {
        let watcher = &mut self.watchers[slot];
        let Some(last) = events.last() else { return };
        watcher.is_quiet = false;
        let (watch_id, revision) = (watcher.id, last.revision());
        let mut push = |events, fragment| {
            self.ready.push_back(WatchMessage {
                watch_id,
                revision,
                content: WatchContent::Events { events, fragment },
            });
        };
        if watcher.may_fragment {
            let mut bytes = 0;
            let mut part = Vec::new();
            for event in events {
                let len = encode::encoded_len(&event);
                if !part.is_empty() && self.fragment_bytes < bytes + len {
                    push(std::mem::take(&mut part), true);
                    bytes = 0;
                }
                bytes += len;
                part.push(event);
            }
            events = part;
        }
        push(events, false);
    }
}
