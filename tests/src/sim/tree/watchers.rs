//! Watchers: each reads the history from where it stands, on whatever member it is connected to,
//! and must see what everybody has agreed on: all of it, in order, once.

use std::sync::Arc;

use bytes::Bytes;
use keelson_core::MemberId;
use keelson_core::tree::{Event as Change, TreeError};

use crate::sim::world::{Event, World};

/// How much one reads at a time.
const BATCH: usize = 16;

/// One watcher.
pub(super) struct Watcher {
    path: Bytes,
    recursive: bool,
    /// The next index of interest.
    since: u64,
    /// Where it is connected to, and that process's life.
    at: Option<(MemberId, u64)>,
}

/// Watchers of everything from the beginning, until they think of something else.
pub(super) fn some(count: u64) -> Vec<Watcher> {
    let watcher = |_| Watcher {
        path: Bytes::from_static(b"/1"),
        recursive: true,
        since: 1,
        at: None,
    };
    (0..count).map(watcher).collect()
}

impl World {
    /// A watcher looks what is new.
    pub(in crate::sim) fn watcher_looks(&mut self, number: usize) -> Result<(), String> {
        let wait = match self.dice.chance(0.02) {
            true => self.dice.between(2_000, 30_000),
            false => self.dice.between(20, 500),
        };
        self.clock.after(wait, Event::Watch(number));
        let Some(id) = self.connect_watcher(number) else {
            return Ok(());
        };
        let machine = self.life(id).and_then(|life| life.machine());
        let Some(view) = machine.map(|machine| machine.view()) else {
            return Ok(());
        };
        let index = view.tree_index();
        self.shows(id, index)?;
        if self.dice.chance(0.03) {
            self.think_of_something_else(number, index);
        }
        for _ in 0..BATCH {
            let watcher = &self.tree.watchers[number];
            let found = view.tree_scan(&watcher.path, watcher.recursive, watcher.since);
            if !self.watcher_hears(number, index, found)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The member it stays with or comes to, if there is one.
    fn connect_watcher(&mut self, number: usize) -> Option<MemberId> {
        let stays = self.tree.watchers[number].at;
        let stays = stays.filter(|(id, boot)| self.lives(*id, *boot));
        let at = match stays.filter(|_| !self.dice.chance(0.05)) {
            Some(at) => Some(at),
            None => {
                let running = self.running();
                let id = self.dice.pick(&running);
                id.map(|id| (id, self.boot(id)))
            }
        };
        self.tree.watchers[number].at = at;
        let (id, _) = at?;
        let paused = self.members.get(&id)?.paused_until > self.clock.now_ms();
        (!paused).then_some(id)
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

    /// What a member whose tree is at that index says. Returns whether there may be more.
    fn watcher_hears(
        &mut self,
        number: usize,
        index: u64,
        found: Result<Option<Arc<Change>>, TreeError>,
    ) -> Result<bool, String> {
        let patient = self.dice.chance(0.3);
        let tree = &mut self.tree;
        let watcher = &mut tree.watchers[number];
        let model = &tree.log.model;
        let expected = model.scan(&watcher.path, watcher.recursive, watcher.since, index);
        if found.as_ref().map(Option::as_ref) != expected.as_ref().map(|event| *event) {
            let path = watcher.path.escape_ascii();
            let since = watcher.since;
            return Err(format!(
                "v2 watch: watcher {number} of {path} since {since} hears\n  {found:?}\nnot\n  \
                 {expected:?}"
            ));
        }
        match found {
            Ok(Some(event)) => {
                watcher.since = event.index + 1;
                self.tally.watched += 1;
                self.note(event.index << 8 ^ number as u64);
                Ok(true)
            }
            Ok(None) => {
                // A client's waitIndex stays as it is; but from the beginning is from now on.
                if watcher.since == 0 || (watcher.since <= index && !patient) {
                    watcher.since = index + 1;
                }
                Ok(false)
            }
            // Reads the tree anew and goes on from there.
            Err(_) => {
                watcher.since = index + 1;
                self.tally.cleared += 1;
                Ok(true)
            }
        }
    }

    /// A mutant: whoever is connected there hears of a refresh.
    pub(super) fn wake_for_refresh(
        &mut self,
        id: MemberId,
        event: &Arc<Change>,
    ) -> Result<(), String> {
        let hears = |watcher: &Watcher| {
            let here = watcher.at.is_some_and(|(at, _)| at == id);
            let below = watcher.recursive && event.node.key.starts_with(&watcher.path);
            here && watcher.since == event.index && (below || watcher.path == event.node.key)
        };
        let numbers = 0..self.tree.watchers.len();
        let hearing: Vec<usize> = numbers
            .filter(|number| hears(&self.tree.watchers[*number]))
            .collect();
        for number in hearing {
            self.watcher_hears(number, event.index, Ok(Some(Arc::clone(event))))?;
        }
        Ok(())
    }
}
