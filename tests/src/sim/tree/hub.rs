//! A member's hub on the virtual clock: the core's watchers and their queue. Events are delivered
//! after a delay. None is delivered between a watcher's scan and its registration, as the product's
//! lock ensures.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::state::ReadView;
use keelson_core::tree::watchers::{
    EventQueue, History, HistoryScan, Sink, WatchSpec, Watchers, is_published,
};
use keelson_core::tree::{Event as Change, TreeError};

use crate::sim::event::Event;
use crate::sim::mutant::Mutant;
use crate::sim::world::World;

/// A queue small enough for bursts to fill.
const QUEUE_EVENTS_MAX: usize = 64;
const QUEUE_BYTES_MAX: usize = 8 * 1024;
/// The longest delay until applied events are delivered.
const DELIVER_MS: u64 = 20;
/// The longest delay between a watcher's scan and its registration.
const ENTER_MS: u64 = 20;

/// Events that were sent to a watcher and not read yet.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) events: VecDeque<Arc<Change>>,
    bytes: usize,
    /// The hub has ended the stream because it was too far behind.
    pub(super) behind: bool,
}

impl Inbox {
    pub(super) fn take(&mut self) -> Option<Arc<Change>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.node_bytes();
        Some(event)
    }
}

/// A hub's end of a watch; dropping it ends the watch.
pub(in crate::sim) struct InboxSink(Rc<RefCell<Inbox>>);

impl Sink for InboxSink {
    fn unread(&self) -> (usize, usize) {
        let inbox = self.0.borrow();
        (inbox.events.len(), inbox.bytes)
    }

    fn send(&mut self, event: &Arc<Change>) -> bool {
        let mut inbox = self.0.borrow_mut();
        inbox.bytes += event.node_bytes();
        inbox.events.push_back(Arc::clone(event));
        true
    }

    fn end_behind(&mut self) {
        self.0.borrow_mut().behind = true;
    }
}

/// A watcher between its scan and its registration.
pub(super) struct Entering {
    pub(super) number: usize,
    pub(super) spec: WatchSpec,
    pub(super) scan: HistoryScan,
}

/// One process's hub.
pub(in crate::sim) struct HubShell {
    pub(super) watchers: Watchers<InboxSink>,
    queue: EventQueue,
    /// The number of watchers, one that is about to scan included.
    pub(super) count: usize,
    pub(super) entering: Option<Entering>,
    /// The task that delivers events is about to run.
    delivery: bool,
    /// The index up to which events were delivered.
    pub(super) delivered: u64,
}

impl Default for HubShell {
    fn default() -> HubShell {
        HubShell {
            watchers: Watchers::default(),
            queue: EventQueue::within(QUEUE_EVENTS_MAX, QUEUE_BYTES_MAX),
            count: 0,
            entering: None,
            delivery: false,
            delivered: 0,
        }
    }
}

impl HubShell {
    /// Whether all applied events were delivered.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.entering.is_none()
    }

    /// Delivers the oldest event of the queue, unless a watcher is about to be registered. Returns
    /// whether there was one.
    fn deliver_next(&mut self) -> bool {
        if self.entering.is_some() {
            return false;
        }
        let Some(event) = self.queue.pop() else {
            return false;
        };
        self.delivered = self.delivered.max(event.index);
        self.count -= self.watchers.deliver(&event);
        true
    }
}

impl World {
    /// A member has applied changes of the tree.
    pub(in crate::sim) fn publish_changes(&mut self, id: MemberId, events: &[Arc<Change>]) {
        let refresh_wakes = self.mutant == Some(Mutant::RefreshWakes);
        let Some(life) = self.life(id) else {
            return;
        };
        for event in events {
            let mut event = Arc::clone(event);
            if refresh_wakes && event.refresh {
                Arc::make_mut(&mut event).refresh = false;
            }
            let hub = &mut life.hub;
            if is_published(&event, hub.count) {
                hub.queue.push(event);
                // The product's publisher waits for a registration in progress.
                while hub.queue.is_full() && hub.deliver_next() {}
            }
        }
        self.plan_delivery(id);
    }

    fn plan_delivery(&mut self, id: MemberId) {
        let Some(life) = self.life(id) else {
            return;
        };
        let hub = &mut life.hub;
        if !hub.queue.is_empty() && !std::mem::replace(&mut hub.delivery, true) {
            let boot = life.log.boot();
            let delay = self.dice.between(0, DELIVER_MS);
            self.clock.after(delay, Event::DeliverEvents(id, boot));
        }
    }

    /// A hub delivers some of the queued events.
    pub(in crate::sim) fn hub_delivers(&mut self, id: MemberId) {
        let most = self.dice.between(1, 20);
        let Some(life) = self.life(id) else {
            return;
        };
        life.hub.delivery = false;
        (0..most).take_while(|_| life.hub.deliver_next()).count();
        self.plan_delivery(id);
    }

    /// A watcher scans the history. Events for it are delivered after its registration.
    pub(super) fn begin_watch(
        &mut self,
        id: MemberId,
        number: usize,
        spec: WatchSpec,
    ) -> Result<HistoryScan, TreeError> {
        let counted_late = self.mutant == Some(Mutant::WatcherCountedLate);
        let life = self.life(id).expect("its watcher is connected");
        let boot = life.log.boot();
        let view = life.applier.view();
        life.hub.count += usize::from(!counted_late);
        let scan = HistoryScan::run(&spec, view);
        match &scan {
            Ok(scan) if scan.waits => {
                let scan = scan.clone();
                life.hub.entering = Some(Entering { number, spec, scan });
                let delay = self.dice.between(0, ENTER_MS);
                self.clock.after(delay, Event::WatcherEnters(id, boot));
            }
            _ => life.hub.count -= usize::from(!counted_late),
        }
        scan
    }

    /// A watcher that has scanned the history is registered.
    pub(in crate::sim) fn watcher_enters(&mut self, id: MemberId) {
        let counted_late = self.mutant == Some(Mutant::WatcherCountedLate);
        let Some(life) = self.life(id) else {
            return;
        };
        let hub = &mut life.hub;
        if let Some(Entering { number, spec, scan }) = hub.entering.take() {
            hub.count += usize::from(counted_late);
            let inbox = Rc::<RefCell<Inbox>>::default();
            let sink = InboxSink(Rc::clone(&inbox));
            let key = hub.watchers.register(&spec, &scan, sink);
            let key = key.expect("hubs are not closed here");
            self.watch_begins(number, &spec, &scan, key, inbox);
        }
        self.plan_delivery(id);
    }

    /// A client leaves.
    pub(super) fn end_watch(&mut self, id: MemberId, spec: &WatchSpec, key: u64) {
        if let Some(life) = self.life(id) {
            life.hub.count -= usize::from(life.hub.watchers.unregister(&spec.path, key));
        }
    }

    /// A snapshot was installed: the events that watchers have missed are in its history.
    pub(in crate::sim) fn resume_watchers(&mut self, id: MemberId) -> Result<(), String> {
        // The product's lock lets a registration finish first.
        self.watcher_enters(id);
        let mutant = self.mutant;
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let (hub, view) = (&mut life.hub, life.applier.view());
        let delivered = hub.delivered;
        let over = match mutant {
            Some(Mutant::ResumeForgotten) => 0,
            Some(Mutant::ResumeRepeats) => hub.watchers.resume(&TooEarly {
                view,
                first: Cell::new(true),
            }),
            _ => hub.watchers.resume(view),
        };
        hub.count -= over;
        let index = view.tree_index();
        hub.delivered = delivered.max(index);
        self.check_resumed(id, delivered, index)
    }
}

/// A mutant's history: its first answer is one index too early.
struct TooEarly<'a> {
    view: &'a ReadView,
    first: Cell<bool>,
}

impl History for TooEarly<'_> {
    fn index(&self) -> u64 {
        self.view.tree_index()
    }

    fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Change>>, TreeError> {
        let early = u64::from(self.first.take());
        self.view.tree_scan(path, recursive, since - early)
    }
}
