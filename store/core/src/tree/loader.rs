//! Loads a tree from the rows of the engine, or of a snapshot; `layout.rs` has their layout.

use keelson_proto::internal::{TreeEvent, TreeEventNode, TreeNode};
use prost::Message;

use super::arena::{Arena, ArenaNode, Content, Id};
use super::history::{self, EventHistory};
use super::layout::{EVENT, HEAD, NODE};
use super::{Action, Event, NodeExtern, Tree};

/// Takes rows in any order, and returns the tree, or a description of the damage.
pub(crate) struct Loader {
    head: Option<(u64, Id)>,
    nodes: Vec<(Id, ArenaNode)>,
    events: Vec<Event>,
    /// The latest start of the history that a row names.
    oldest: u64,
    history: EventHistory,
}

impl Default for Loader {
    fn default() -> Loader {
        Loader::new(EventHistory::default())
    }
}

impl Loader {
    /// A loader with an empty history.
    pub(super) fn new(history: EventHistory) -> Loader {
        Loader {
            head: None,
            nodes: Vec::new(),
            events: Vec::new(),
            oldest: 0,
            history,
        }
    }

    /// Adds a row.
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

    /// Builds the tree.
    pub(crate) fn finish(self) -> Result<Tree, String> {
        let (index, numbers) = match self.head {
            Some(head) => head,
            // The store is of a release without a tree.
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

fn entry(row: TreeNode) -> Option<ArenaNode> {
    let named = !row.name.is_empty() && !row.name.contains(&b'/');
    let content = match row.dir {
        true => Content::dir(),
        false => Content::File(row.value),
    };
    named.then_some(ArenaNode {
        parent: row.parent,
        name: row.name,
        content,
        created: row.created,
        modified: row.modified,
        expires_ns: row.expires_ns,
        ttl_set: row.ttl_set,
    })
}

/// The event of a row.
pub(super) fn event(row: TreeEvent) -> Option<Event> {
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

/// The node of an event's row.
pub(super) fn node(row: TreeEventNode) -> NodeExtern {
    NodeExtern {
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
