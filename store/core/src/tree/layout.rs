//! The layout of the tree's rows, also for what reads and writes them without a tree.
//!
//! | key | value |
//! |---|---|
//! | `e`, then where in the history: index modulo its length | `TreeEvent` |
//! | `h` | the index, and how many numbers nodes may have |
//! | `n`, then the node's number | `TreeNode` |
//!
//! An event's row is overwritten by that of a later one, or deleted once the history no longer
//! includes it. Rows left by earlier releases are ignored, and deleted.

use bytes::Bytes;
use keelson_proto::internal::{TreeEvent, TreeNode};
use prost::Message;

use super::arena::{self, Id};
use super::history;

/// The number of the node of the keys API.
pub const KEYS: u32 = arena::KEYS;
/// The maximum number of events in the history, as in etcd.
pub const EVENTS_MAX: usize = history::EVENTS_MAX;

pub(super) const EVENT: u8 = b'e';
pub(super) const HEAD: u8 = b'h';
pub(super) const NODE: u8 = b'n';

pub(super) fn node_key(id: Id) -> Bytes {
    [&[NODE][..], &id.to_be_bytes()].concat().into()
}

pub(super) fn event_key(slot: u16) -> Bytes {
    [&[EVENT][..], &slot.to_be_bytes()].concat().into()
}

pub(super) fn head_row(index: u64, numbers: Id) -> (Bytes, Bytes) {
    let row = [&index.to_be_bytes()[..], &numbers.to_be_bytes()].concat();
    (Bytes::from_static(&[HEAD]), row.into())
}

/// A row, read.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredRow {
    /// The tree's index.
    Head(u64),
    /// A node with its number.
    Node(u32, TreeNode),
    /// An event of the history.
    Event(TreeEvent),
}

impl StoredRow {
    /// Reads a row; `None` if it is none of a tree.
    pub fn read(key: &[u8], row: Bytes) -> Option<StoredRow> {
        let (kind, rest) = key.split_first()?;
        Some(match *kind {
            HEAD => StoredRow::Head(u64::from_be_bytes(*row.first_chunk()?)),
            NODE => {
                let id = Id::from_be_bytes(rest.try_into().ok()?);
                StoredRow::Node(id, TreeNode::decode(row).ok()?)
            }
            EVENT => StoredRow::Event(TreeEvent::decode(row).ok()?),
            _ => return None,
        })
    }
}

/// The rows of a tree that was kept in another form.
#[derive(Debug)]
pub struct TreeRows {
    rows: Vec<(Bytes, Bytes)>,
    next: Id,
}

impl Default for TreeRows {
    fn default() -> TreeRows {
        TreeRows {
            rows: Vec::new(),
            next: arena::FIXED,
        }
    }
}

impl TreeRows {
    /// Adds a node. Returns its number, by which its children name it; `None` if there are too
    /// many.
    pub fn node(&mut self, node: &TreeNode) -> Option<u32> {
        let id = self.next;
        self.next = id.checked_add(1)?;
        self.rows.push((node_key(id), node.encode_to_vec().into()));
        Some(id)
    }

    /// Adds an event of the history.
    pub fn event(&mut self, event: &TreeEvent) {
        let key = event_key(history::slot(event.index));
        self.rows.push((key, event.encode_to_vec().into()));
    }

    /// The rows, with the tree's index.
    pub fn finish(mut self, index: u64) -> Vec<(Bytes, Bytes)> {
        self.rows.push(head_row(index, self.next));
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Loader, Tree, tests::requests::set};

    #[test]
    fn rows_that_are_read_and_written_anew_are_the_same_tree() {
        let mut tree = Tree::new();
        for number in 0..9 {
            let path = format!("/1/{}", number % 4);
            tree.apply(&set(&path, "x")).unwrap();
        }
        let (mut rows, mut index) = (TreeRows::default(), 0);
        let mut nodes = Vec::new();
        for (key, row) in tree.rows() {
            match StoredRow::read(&key, row).unwrap() {
                StoredRow::Head(head) => index = head,
                StoredRow::Node(id, node) => nodes.push((id, node)),
                StoredRow::Event(event) => rows.event(&event),
            }
        }
        nodes.sort_by_key(|(id, _)| *id);
        for (id, node) in nodes {
            assert_eq!((rows.node(&node), node.parent), (Some(id), KEYS));
        }
        let mut loader = Loader::default();
        for (key, row) in rows.finish(index) {
            loader.push(&key, &row).unwrap();
        }
        assert_eq!(loader.finish().unwrap().digest(), tree.digest());
    }
}
