//! Watchers: each watches at the member it is connected to, by long polls and streams, and must
//! receive the agreed events: all of them, in order, once (`watched`).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::MemberId;
use keelson_core::tree::Event as Change;
use keelson_core::tree::watchers::{HistoryScan, WatchSpec};

use super::hub::Inbox;
use super::watched::Watch;
use crate::model::notifies;
use crate::sim::event::Event;
use crate::sim::world::World;

/// The largest number of events read at a time.
const BATCH: usize = 16;

/// One watcher.
pub(super) struct Watcher {
    path: Bytes,
    recursive: bool,
    /// The next index of interest.
    since: u64,
    /// The member it is connected to, and that member's incarnation.
    pub(super) at: Option<(MemberId, u64)>,
    /// It has scanned the history there, and is about to be registered.
    enters: bool,
    pub(super) watch: Option<Watch>,
}

/// Watchers of everything from the beginning, until they choose something else.
pub(super) fn some(count: u64) -> Vec<Watcher> {
    let watcher = |_| Watcher {
        path: Bytes::from_static(b"/1"),
        recursive: true,
        since: 1,
        at: None,
        enters: false,
        watch: None,
    };
    (0..count).map(watcher).collect()
}

impl World {
    /// A watcher reads what was sent, and starts a new watch where its watch is over.
    pub(in crate::sim) fn watcher_looks(&mut self, number: usize) -> Result<(), String> {
        let wait = match self.dice.chance(0.02) {
            true => self.dice.between(2_000, 30_000),
            false => self.dice.between(20, 500),
        };
        self.clock.after(wait, Event::Watch(number));
        let Some(id) = self.connect_watcher(number) else {
            return Ok(());
        };
        if self.tree.watchers[number].enters {
            return Ok(());
        }
        if self.dice.chance(0.03) {
            self.leave_watch(number, id);
            let machine = self.life(id).and_then(|life| life.machine());
            let index = machine.map_or(0, |machine| machine.view().tree_index());
            self.think_of_something_else(number, index);
        }
        self.watcher_reads(number, BATCH)?;
        match self.tree.watchers[number].watch {
            Some(_) => Ok(()),
            None => self.watch_anew(number, id),
        }
    }

    /// The member it stays with or connects to, if there is one.
    fn connect_watcher(&mut self, number: usize) -> Option<MemberId> {
        let stays = self.tree.watchers[number].at;
        let lives = stays.filter(|(id, boot)| self.lives(*id, *boot));
        let at = match lives.filter(|_| !self.dice.chance(0.05)) {
            Some(at) => Some(at),
            None => {
                if let Some((id, _)) = lives {
                    self.leave_watch(number, id);
                }
                let running = self.running();
                let id = self.dice.pick(&running);
                id.map(|id| (id, self.boot(id)))
            }
        };
        let watcher = &mut self.tree.watchers[number];
        if watcher.at != at {
            // Unread events are lost with the connection.
            (watcher.at, watcher.enters, watcher.watch) = (at, false, None);
        }
        let (id, _) = at?;
        let paused = self.members.get(&id)?.paused_until > self.clock.now_ms();
        (!paused).then_some(id)
    }

    /// A client leaves: its watch ends, also one that is about to be registered.
    fn leave_watch(&mut self, number: usize, id: MemberId) {
        if self.tree.watchers[number].enters {
            self.watcher_enters(id);
        }
        if let Some(watch) = self.tree.watchers[number].watch.take() {
            self.end_watch(id, &watch.spec, watch.key);
        }
    }

    fn think_of_something_else(&mut self, number: usize, index: u64) {
        let paths = [
            "/1",
            "/1/a",
            "/1/e",
            "/1/_h",
            "/1/q",
            "/1/a/p0",
            "/1/e/t0",
            "/1/a/b/p1",
        ];
        let path = self.dice.pick(&paths).expect("not empty");
        let back = self.dice.between(0, 1_200);
        let since = match self.dice.between(0, 5) {
            0 => 0,
            1 => index + self.dice.between(1, 50),
            2 => 1,
            _ => index.saturating_sub(back).max(1),
        };
        let recursive = self.dice.chance(0.6);
        let watcher = &mut self.tree.watchers[number];
        watcher.path = Bytes::from_static(path.as_bytes());
        (watcher.recursive, watcher.since) = (recursive, since);
    }

    // === the history ===

    /// Starts a watch at a member, if no other watcher is about to be registered there.
    fn watch_anew(&mut self, number: usize, id: MemberId) -> Result<(), String> {
        let stream = self.dice.chance(0.7);
        let Some(life) = self.life(id).filter(|life| life.machine().is_some()) else {
            return Ok(());
        };
        if life.hub.entering.is_some() {
            return Ok(());
        }
        let index = life.applier.view().tree_index();
        self.shows(id, index)?;
        let watcher = &self.tree.watchers[number];
        let spec = WatchSpec {
            path: watcher.path.clone(),
            recursive: watcher.recursive,
            stream,
            since: watcher.since,
        };
        let scan = self.begin_watch(id, number, spec.clone());
        self.check_look(number, index, &spec, &scan)?;
        let watcher = &mut self.tree.watchers[number];
        match scan {
            Ok(scan) => {
                watcher.enters = scan.waits;
                watcher.since = scan.past.first().map_or(spec.since, |last| last.index + 1);
                self.tally.watched += scan.past.len() as u64;
                for event in scan.past.iter().rev() {
                    self.note(event.index << 8 ^ number as u64);
                }
            }
            // Reads the tree anew and goes on from its index.
            Err(_) => {
                watcher.since = index + 1;
                self.tally.cleared += 1;
            }
        }
        Ok(())
    }

    /// A watcher is registered.
    pub(super) fn watch_begins(
        &mut self,
        number: usize,
        spec: &WatchSpec,
        scan: &HistoryScan,
        key: u64,
        inbox: Rc<RefCell<Inbox>>,
    ) {
        let watcher = &mut self.tree.watchers[number];
        watcher.enters = false;
        watcher.watch = Some(Watch {
            spec: spec.clone(),
            key,
            inbox,
            from: spec.since.max(scan.index + 1),
            resumed_to: 0,
            cut: false,
            delivered: false,
        });
    }

    // === received events ===

    /// Reads a bounded number of events, and checks whether the watch is over.
    pub(super) fn watcher_reads(&mut self, number: usize, most: usize) -> Result<(), String> {
        for _ in 0..most {
            let watch = self.tree.watchers[number].watch.as_ref();
            let Some(event) = watch.and_then(|watch| watch.inbox.borrow_mut().take()) else {
                break;
            };
            self.watcher_takes(number, &event)?;
        }
        let watcher = &self.tree.watchers[number];
        let (Some(watch), Some((id, boot))) = (&watcher.watch, watcher.at) else {
            return Ok(());
        };
        if !self.lives(id, boot) {
            // The connection ended with the process.
            self.tree.watchers[number].watch = None;
            return Ok(());
        }
        if !watch.inbox.borrow().events.is_empty() {
            return Ok(());
        }
        if watch.is_over() {
            let behind = watch.inbox.borrow().behind;
            if !(watch.delivered || watch.cut || behind) {
                return Err(format!(
                    "v2 watch: watcher {number} was cut without a reason"
                ));
            }
            self.tree.watchers[number].watch = None;
            self.tally.behind += u64::from(behind);
            return Ok(());
        }
        let life = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        match life.filter(|life| life.hub.is_idle()) {
            Some(life) => self.nothing_is_missing(number, life.applier.view().tree_index() + 1),
            None => Ok(()),
        }
    }

    fn watcher_takes(&mut self, number: usize, event: &Arc<Change>) -> Result<(), String> {
        self.nothing_is_missing(number, event.index)?;
        let (model, watcher) = (&self.tree.log.model, &mut self.tree.watchers[number]);
        let watch = watcher.watch.as_mut().expect("it has come by it");
        let (path, recursive) = (&watch.spec.path, watch.spec.recursive);
        let agreed = model.event(event.index);
        let from_history = event.index <= watch.resumed_to
            && model.scan(path, recursive, event.index, event.index) == Ok(agreed);
        let asked_for = notifies(event, path, recursive) || from_history;
        if event.index < watch.from || agreed != Some(event) || !asked_for || watch.delivered {
            let (spec, from) = (&watch.spec, watch.from);
            return Err(format!(
                "v2 watch: watcher {number} of {spec:?} from {from} is sent\n  \
                 {event:?}\nand agreed is\n  {agreed:?}"
            ));
        }
        watch.from = event.index + 1;
        watch.delivered = !watch.spec.stream;
        watcher.since = event.index + 1;
        self.tally.watched += 1;
        self.note(event.index << 8 ^ number as u64);
        Ok(())
    }
}
