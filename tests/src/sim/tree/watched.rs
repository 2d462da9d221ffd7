//! The events that a watch must receive, by the agreed tree.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::tree::TreeError;
use keelson_core::tree::watchers::{HistoryScan, STREAM_EVENTS_MAX, WatchSpec};

use super::hub::Inbox;
use crate::model::notifies;
use crate::sim::world::World;

/// A registered watch, and what it must receive.
pub(super) struct Watch {
    pub(super) spec: WatchSpec,
    pub(super) key: u64,
    pub(super) inbox: Rc<RefCell<Inbox>>,
    /// It must receive every matching event from this index on.
    pub(super) from: u64,
    /// Events up to this index may come from the history of a snapshot.
    pub(super) resumed_to: u64,
    /// A snapshot's history did not reach back far enough.
    pub(super) cut: bool,
    /// Without a stream: its event was read.
    pub(super) delivered: bool,
}

impl Watch {
    /// The hub has dropped its end, or the process has died.
    pub(super) fn is_over(&self) -> bool {
        Rc::strong_count(&self.inbox) == 1
    }
}

impl World {
    /// A member's scan of its history at that index must have the model's result.
    pub(super) fn check_look(
        &self,
        number: usize,
        index: u64,
        spec: &WatchSpec,
        scan: &Result<HistoryScan, TreeError>,
    ) -> Result<(), String> {
        let model = &self.tree.log.model;
        let mut expected = Ok(Vec::new());
        let mut since = spec.since;
        while let Ok(events) = &mut expected {
            match model.scan(&spec.path, spec.recursive, since, index) {
                Ok(Some(event)) => {
                    since = event.index + 1;
                    events.insert(0, Arc::clone(event));
                    if !spec.stream {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => expected = Err(error),
            }
        }
        let found = scan.as_ref().map(|scan| &scan.past);
        match found == expected.as_ref() && scan.as_ref().map_or(index, |scan| scan.index) == index
        {
            true => Ok(()),
            false => Err(format!(
                "v2 watch: watcher {number} of {spec:?} finds\n  {found:?}\nnot\n  {expected:?}"
            )),
        }
    }

    /// Checks that no matching event is missing between the last one received and that index.
    pub(super) fn nothing_is_missing(&self, number: usize, before: u64) -> Result<(), String> {
        let Some(watch) = &self.tree.watchers[number].watch else {
            return Ok(());
        };
        let model = &self.tree.log.model;
        let events = (watch.from..before).filter_map(|index| model.event(index));
        let mut asked_for =
            events.filter(|event| notifies(event, &watch.spec.path, watch.spec.recursive));
        match asked_for.next() {
            Some(missed) => {
                let spec = &watch.spec;
                Err(format!(
                    "v2 watch: watcher {number} of {spec:?} misses {missed:?}"
                ))
            }
            None => Ok(()),
        }
    }

    /// A snapshot was installed: a watch ends if the new history does not reach back to the last
    /// delivered index, and otherwise goes on.
    pub(super) fn check_resumed(
        &mut self,
        id: MemberId,
        delivered: u64,
        index: u64,
    ) -> Result<(), String> {
        let here = (id, self.boot(id));
        let (model, watchers) = (&self.tree.log.model, &mut self.tree.watchers);
        for watcher in watchers
            .iter_mut()
            .filter(|watcher| watcher.at == Some(here))
        {
            let Some(watch) = &mut watcher.watch else {
                continue;
            };
            let WatchSpec {
                path, recursive, ..
            } = &watch.spec;
            let unread = watch.inbox.borrow().events.len();
            let was_over = watch.delivered || watch.cut || watch.inbox.borrow().behind;
            let ended_by_event = !watch.spec.stream && unread != 0;
            watch.resumed_to = index;
            let from = watch.from.max(delivered + 1);
            let cleared = model.scan(path, *recursive, from, index).is_err();
            if was_over || ended_by_event || unread == STREAM_EVENTS_MAX {
                continue;
            }
            if cleared != watch.is_over() {
                let over = watch.is_over();
                return Err(format!(
                    "v2 watch: after a snapshot of index {index}: {:?} from {from}: over: {over}, \
                     cleared: {cleared}",
                    watch.spec
                ));
            }
            watch.cut = cleared;
            self.tally.resumed += 1;
        }
        Ok(())
    }
}
