//! The tree as rows of the engine; `layout.rs` has their layout, and `loader.rs` reads them.

use bytes::Bytes;
use keelson_proto::internal::{TreeEvent, TreeEventNode, TreeNode};
use prost::Message;

use super::arena::{ArenaNode, Content, Id};
use super::layout::{self, HEAD, event_key, node_key};
use super::{Event, NodeExtern, Tree, history};

impl Tree {
    /// The current tree, to be encoded later. Values are shared with the tree: they may be
    /// gigabytes, and the tree is locked meanwhile.
    pub(crate) fn captured(&self) -> impl Iterator<Item = TreeRow> {
        let oldest = self.history.oldest();
        let events = self.history.from(0);
        let events =
            events.map(move |event| TreeRow::Event(Box::new(event_message(event, oldest))));
        let (key, row) = self.head_row();
        let nodes = self.arena.entries();
        let nodes = nodes.map(|(id, entry)| TreeRow::NodeExtern(id, node_message(entry)));
        events.chain([TreeRow::Head(key, row)]).chain(nodes)
    }

    /// The current tree, as rows.
    pub(crate) fn rows(&self) -> Vec<(Bytes, Bytes)> {
        self.captured().map(TreeRow::encode).collect()
    }

    /// The changes since `cleaned`, as rows; `None` deletes a row.
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

    /// Marks all rows as up to date.
    pub(crate) fn cleaned(&mut self) {
        self.arena.cleaned();
        self.history.cleaned();
    }

    /// The number of rows out of date, and their approximate size in bytes.
    pub(crate) fn unflushed(&self) -> (usize, u64) {
        let (events, event_bytes) = self.history.fresh();
        let nodes = self.arena.dirty().len();
        (events + nodes, event_bytes + self.arena.dirty_bytes())
    }

    /// The row with the tree's index, raised; `None` for another row.
    pub(crate) fn bumped_head(key: &[u8], row: &[u8], by: u64) -> Option<Bytes> {
        let (index, numbers) = row.split_first_chunk().filter(|_| key == [HEAD])?;
        let index = u64::from_be_bytes(*index).saturating_add(by);
        Some([&index.to_be_bytes()[..], numbers].concat().into())
    }

    fn head_row(&self) -> (Bytes, Bytes) {
        layout::head_row(self.index(), self.arena.numbers())
    }
}

/// A row that is not encoded yet.
#[derive(Clone, Debug)]
pub(crate) enum TreeRow {
    Head(Bytes, Bytes),
    NodeExtern(Id, TreeNode),
    Event(Box<TreeEvent>),
}

impl TreeRow {
    /// Encodes key and value.
    pub(crate) fn encode(self) -> (Bytes, Bytes) {
        match self {
            TreeRow::Head(key, row) => (key, row),
            TreeRow::NodeExtern(id, node) => (node_key(id), node.encode_to_vec().into()),
            TreeRow::Event(event) => {
                let key = event_key(history::slot(event.index));
                (key, event.encode_to_vec().into())
            }
        }
    }
}

fn node_row(entry: &ArenaNode) -> Bytes {
    node_message(entry).encode_to_vec().into()
}

fn node_message(entry: &ArenaNode) -> TreeNode {
    let value = match &entry.content {
        Content::File(value) => value.clone(),
        Content::Dir(_) => Bytes::new(),
    };
    TreeNode {
        parent: entry.parent,
        name: entry.name.clone(),
        dir: entry.children().is_some(),
        value,
        created: entry.created,
        modified: entry.modified,
        expires_ns: entry.expires_ns,
        ttl_set: entry.ttl_set,
    }
}

pub(super) fn event_row(event: &Event, oldest: u64) -> (Bytes, Bytes) {
    let key = event_key(history::slot(event.index));
    (key, event_message(event, oldest).encode_to_vec().into())
}

/// An event as a row.
pub(super) fn event_message(event: &Event, oldest: u64) -> TreeEvent {
    TreeEvent {
        action: event.action as u32,
        node: Some(event_node(&event.node)),
        prev: event.prev.as_ref().map(event_node),
        index: event.index,
        refresh: event.refresh,
        oldest,
    }
}

/// A node of an event's row.
pub(super) fn event_node(node: &NodeExtern) -> TreeEventNode {
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
