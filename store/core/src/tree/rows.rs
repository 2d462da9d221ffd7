//! The tree as rows of the engine, and back.
//!
//! | key | value |
//! |---|---|
//! | `e`, then where in the history: index modulo its length | `TreeEvent` |
//! | `h` | the index, and how many numbers nodes may have |
//! | `n`, then the node's number | `TreeNode` |
//!
//! An event's row is overwritten by that of a later one, or deleted once the history does not reach
//! back to it; rows that earlier releases left behind are passed over, and deleted.

use bytes::Bytes;
use keelson_proto::internal::{TreeEvent, TreeEventNode, TreeNode};
use prost::Message;

use super::arena::{Arena, Content, Entry, Id};
use super::history::{self, History};
use super::{Action, Event, Node, Tree};

const EVENT: u8 = b'e';
const HEAD: u8 = b'h';
const NODE: u8 = b'n';

impl Tree {
    /// Everything, as rows.
    pub(crate) fn rows(&self) -> Vec<(Bytes, Bytes)> {
        let oldest = self.history.oldest();
        let events = self.history.from(0);
        let events = events.map(|event| event_row(event, oldest));
        let nodes = self.arena.entries();
        let nodes = nodes.map(|(id, entry)| (node_key(id), node_row(entry)));
        events.chain([self.head_row()]).chain(nodes).collect()
    }

    /// What changed since `cleaned`, as rows; None deletes one.
    pub(crate) fn stale_rows(&self) -> Vec<(Bytes, Option<Bytes>)> {
        let some = |(key, row)| (key, Some(row));
        let cleared = self.history.stale_slots();
        let cleared = cleared.map(|slot| (event_key(slot), None));
        let oldest = self.history.oldest();
        let events = self.history.fresh_events();
        let events = events.map(|event| some(event_row(event, oldest)));
        let head = (0 < self.history.fresh().0).then(|| some(self.head_row()));
        let nodes = self.arena.dirty().iter();
        let nodes = nodes.map(|id| (node_key(*id), self.arena.get(*id).map(node_row)));
        cleared.chain(events).chain(head).chain(nodes).collect()
    }

    /// The rows are up to date from now on.
    pub(crate) fn cleaned(&mut self) {
        self.arena.cleaned();
        self.history.cleaned();
    }

    /// How many rows are out of date, and what they weigh, roughly.
    pub(crate) fn unflushed(&self) -> (usize, u64) {
        let (events, event_bytes) = self.history.fresh();
        let nodes = self.arena.dirty().len();
        (events + nodes, event_bytes + self.arena.dirty_bytes())
    }

    fn head_row(&self) -> (Bytes, Bytes) {
        let index = self.index().to_be_bytes();
        let numbers = self.arena.numbers().to_be_bytes();
        let row = [&index[..], &numbers].concat();
        (Bytes::from_static(&[HEAD]), row.into())
    }
}

/// Takes rows in any order; then there is a tree, or a text that says what is wrong.
pub(crate) struct Loader {
    head: Option<(u64, Id)>,
    nodes: Vec<(Id, Entry)>,
    events: Vec<Event>,
    /// The newest beginning of the history that a row names.
    oldest: u64,
    history: History,
}

impl Default for Loader {
    fn default() -> Loader {
        Loader::new(History::default())
    }
}

impl Loader {
    /// The events come into that history, in which nothing has happened.
    pub(super) fn new(history: History) -> Loader {
        Loader {
            head: None,
            nodes: Vec::new(),
            events: Vec::new(),
            oldest: 0,
            history,
        }
    }

    /// Takes a row.
    pub(crate) fn push(&mut self, key: &[u8], row: &[u8]) -> Result<(), String> {
        let taken = match key.split_first() {
            Some((&EVENT, slot)) => self.push_event(slot, row),
            Some((&HEAD, [])) => self.push_head(row),
            Some((&NODE, id)) => self.push_node(id, row),
            _ => None,
        };
        taken.ok_or_else(|| format!("row {key:02x?}"))
    }

    fn push_event(&mut self, slot: &[u8], row: &[u8]) -> Option<()> {
        let row = TreeEvent::decode(row).ok()?;
        let (index, oldest) = (row.index, row.oldest);
        if slot != history::slot(index).to_be_bytes() || index < oldest {
            return None;
        }
        let event = event(row)?;
        self.oldest = self.oldest.max(oldest);
        self.events.push(event);
        Some(())
    }

    fn push_head(&mut self, row: &[u8]) -> Option<()> {
        let (index, numbers) = row.split_first_chunk()?;
        let numbers = numbers.try_into().ok()?;
        self.head = Some((u64::from_be_bytes(*index), Id::from_be_bytes(numbers)));
        Some(())
    }

    fn push_node(&mut self, id: &[u8], row: &[u8]) -> Option<()> {
        let id = Id::from_be_bytes(id.try_into().ok()?);
        let entry = entry(TreeNode::decode(row).ok()?)?;
        self.nodes.push((id, entry));
        Some(())
    }

    /// The tree.
    pub(crate) fn finish(self) -> Result<Tree, String> {
        let (index, numbers) = match self.head {
            Some(head) => head,
            // The store of a release that had no tree.
            None if self.nodes.is_empty() && self.events.is_empty() => {
                let history = self.history;
                return Ok(Tree {
                    history,
                    ..Tree::new()
                });
            }
            None => return Err("no index".to_owned()),
        };
        let mut deadlines = std::collections::BTreeSet::new();
        for (id, entry) in &self.nodes {
            if index < entry.created.max(entry.modified).max(entry.ttl_set) {
                return Err(format!("node {id} is of the future"));
            }
            if entry.expires_ns != 0 {
                deadlines.insert((entry.expires_ns, *id));
            }
        }
        if let Some(event) = self.events.iter().find(|event| index < event.index) {
            return Err(format!("event {} is of the future", event.index));
        }
        let mut history = self.history.since(self.oldest, index);
        history.restore(self.events);
        Ok(Tree {
            arena: Arena::restore(self.nodes, numbers)?,
            deadlines,
            history,
        })
    }
}

fn node_key(id: Id) -> Bytes {
    [&[NODE][..], &id.to_be_bytes()].concat().into()
}

fn node_row(entry: &Entry) -> Bytes {
    let value = match &entry.content {
        Content::File(value) => value.clone(),
        Content::Dir(_) => Bytes::new(),
    };
    let row = TreeNode {
        parent: entry.parent,
        name: entry.name.clone(),
        dir: entry.children().is_some(),
        value,
        created: entry.created,
        modified: entry.modified,
        expires_ns: entry.expires_ns,
        ttl_set: entry.ttl_set,
    };
    row.encode_to_vec().into()
}

fn entry(row: TreeNode) -> Option<Entry> {
    let named = !row.name.is_empty() && !row.name.contains(&b'/');
    let content = match row.dir {
        true => Content::dir(),
        false => Content::File(row.value),
    };
    named.then_some(Entry {
        parent: row.parent,
        name: row.name,
        content,
        created: row.created,
        modified: row.modified,
        expires_ns: row.expires_ns,
        ttl_set: row.ttl_set,
    })
}

fn event_key(slot: u16) -> Bytes {
    [&[EVENT][..], &slot.to_be_bytes()].concat().into()
}

pub(super) fn event_row(event: &Event, oldest: u64) -> (Bytes, Bytes) {
    let row = TreeEvent {
        action: event.action as u32,
        node: Some(event_node(&event.node)),
        prev: event.prev.as_ref().map(event_node),
        index: event.index,
        refresh: event.refresh,
        oldest,
    };
    let key = event_key(history::slot(event.index));
    (key, row.encode_to_vec().into())
}

fn event_node(node: &Node) -> TreeEventNode {
    TreeEventNode {
        key: node.key.clone(),
        value: node.value.clone(),
        dir: node.dir,
        expires_ns: node.expires_ns.unwrap_or_default(),
        ttl: node.ttl,
        created: node.created,
        modified: node.modified,
    }
}

fn event(row: TreeEvent) -> Option<Event> {
    Some(Event {
        action: Action::from_number(row.action)?,
        node: node(row.node?),
        prev: row.prev.map(node),
        index: row.index,
        refresh: row.refresh,
        removed: Vec::new(),
        encoding: Default::default(),
    })
}

fn node(row: TreeEventNode) -> Node {
    Node {
        key: row.key,
        value: row.value,
        dir: row.dir,
        expires_ns: (row.expires_ns != 0).then_some(row.expires_ns),
        ttl: row.ttl,
        nodes: Default::default(),
        modified: row.modified,
        created: row.created,
    }
}
