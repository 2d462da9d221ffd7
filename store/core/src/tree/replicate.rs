//! The tree of a standby: nodes, indexes and events of another cluster's tree.
//!
//! An event states the node after the change, so it is applied without a look at the one before:
//! the standby may lack hidden nodes, and what only a time to live has changed.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::{ReplicatedTree, TreeEvent};

use super::arena::{ArenaNode, Content, Id, KEYS, ROOT};
use super::walk::{self, WalkScope};
use super::{Action, Event, NodeExtern, Tree, loader, path};

/// What a part of another tree has changed.
#[derive(Debug, Default, PartialEq)]
pub struct Replicated {
    /// Its events.
    pub events: Vec<Arc<Event>>,
    /// Nodes that were put right, or removed, without an event.
    pub corrected: Vec<NodeExtern>,
}

/// Whether the path is below the keys API's node: nothing else is replicated.
fn is_key(path: &[u8]) -> bool {
    path::clean(path).starts_with(b"/1/")
}

/// All below a node.
const ALL: WalkScope = WalkScope {
    recursive: true,
    hidden: true,
};

impl Tree {
    /// Applies a part of another tree, unless the index is another one than the part begins at.
    /// What is no part of a tree is left out.
    pub fn replicate(&mut self, part: &ReplicatedTree) -> Replicated {
        let mut replicated = Replicated::default();
        if part.after != self.index() || (part.index < part.after && !part.reset) {
            return replicated;
        }
        if part.reset {
            self.reset(part.index);
            return replicated;
        }
        for event in &part.events {
            if self.index() < event.index && event.index <= part.index {
                replicated.events.extend(self.replicate_event(event));
            }
        }
        self.history.advance(part.index);
        for node in &part.nodes {
            let node = loader::node(node.clone());
            if is_key(&node.key) {
                self.put_right(&node, part.index);
                replicated.corrected.push(node);
            }
        }
        for key in &part.gone {
            if is_key(key) && self.cut_off(key).is_some() {
                replicated.corrected.push(NodeExtern {
                    key: key.clone(),
                    ..NodeExtern::default()
                });
            }
        }
        replicated
    }

    /// Removes all keys and events. Nodes outside the keys API stay, and are not of the future.
    fn reset(&mut self, index: u64) {
        for met in walk::below(&self.arena, KEYS, b"/1", ALL) {
            self.forget(met.id);
        }
        for met in walk::below(&self.arena, ROOT, b"/", ALL) {
            self.arena.change(met.id, |entry| {
                entry.created = entry.created.min(index);
                entry.modified = entry.modified.min(index);
                entry.ttl_set = entry.ttl_set.min(index);
            });
        }
        self.history.restart(index);
    }

    fn replicate_event(&mut self, row: &TreeEvent) -> Option<Arc<Event>> {
        let mut event = loader::event(row.clone())?;
        if !is_key(&event.node.key) {
            return None;
        }
        self.history.advance(event.index - 1);
        match event.action {
            Action::Get => return None,
            Action::Delete | Action::CompareAndDelete | Action::Expire => {
                event.removed = self.cut_off(&event.node.key).unwrap_or_default();
            }
            Action::Set | Action::Create | Action::Update | Action::CompareAndSwap => {
                self.put_event_node(&event);
            }
        }
        let event = Arc::new(event);
        self.history.push(Some(&event));
        Some(event)
    }

    /// A directory's own index does not change with its time to live, regardless of the event.
    fn put_event_node(&mut self, event: &Event) {
        let mut node = event.node.alone();
        let updates = event.action == Action::Update;
        if let Ok(id) = self.find(&path::clean(&node.key))
            && updates
            && self.is_dir(id)
        {
            node.modified = self.arena[id].modified;
        }
        self.put_right(&node, event.index);
        if let Ok(id) = self.find(&path::clean(&node.key)) {
            let ttl_set = if node.expires_ns.is_some() {
                event.index
            } else {
                0
            };
            self.arena.change(id, |entry| entry.ttl_set = ttl_set);
        }
    }

    /// Makes a node as it is in the other tree, at an index. Missing directories of its path are
    /// created; a file in its way is none any more.
    fn put_right(&mut self, node: &NodeExtern, index: u64) {
        let mut names = path::names(&node.key).peekable();
        let mut at = ROOT;
        while let Some(name) = names.next() {
            let is_last = names.peek().is_none();
            let dir = !is_last || node.dir;
            at = match self.arena.child(at, name) {
                Some(child) => {
                    self.be_dir(child, dir);
                    child
                }
                None => self.arena.insert(ArenaNode {
                    parent: at,
                    name: Bytes::copy_from_slice(name),
                    content: match dir {
                        true => Content::dir(),
                        false => Content::File(Bytes::new()),
                    },
                    created: index,
                    modified: index,
                    expires_ns: 0,
                    ttl_set: 0,
                }),
            };
        }
        self.fill(at, node, index);
    }

    /// Makes a node a directory, or a file, if it is none.
    fn be_dir(&mut self, id: Id, dir: bool) {
        if self.is_dir(id) == dir {
            return;
        }
        for met in walk::below(&self.arena, id, b"/", ALL) {
            self.forget(met.id);
        }
        let content = match dir {
            true => Content::dir(),
            false => Content::File(Bytes::new()),
        };
        self.arena.change(id, |entry| entry.content = content);
    }

    fn fill(&mut self, id: Id, node: &NodeExtern, index: u64) {
        let expires_ns = node.expires_ns.unwrap_or_default();
        let before = self.arena[id].expires_ns;
        self.deadlines.remove(&(before, id));
        if expires_ns != 0 {
            self.deadlines.insert((expires_ns, id));
        }
        self.arena.change(id, |entry| {
            if let Content::File(value) = &mut entry.content {
                *value = node.value.clone().unwrap_or_default();
            }
            // The network's numbers: one of the future is damage.
            (entry.created, entry.modified) = (node.created.min(index), node.modified.min(index));
            if before != expires_ns {
                entry.expires_ns = expires_ns;
                entry.ttl_set = if expires_ns == 0 { 0 } else { entry.modified };
            }
        });
    }

    /// Removes a node and all below it. Returns the paths of these; `None` if there is none.
    fn cut_off(&mut self, key: &Bytes) -> Option<Vec<Bytes>> {
        let clean = path::clean(key);
        let id = self.find(&clean).ok()?;
        let outcome = self.take_out(id, key.clone(), Action::Delete, 0);
        Some(outcome.removed)
    }
}
