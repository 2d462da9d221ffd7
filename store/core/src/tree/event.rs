//! What a change or a read looks like to clients.

use std::sync::OnceLock;

use bytes::Bytes;

use super::NodeExterns;

/// What happened. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// Nothing: a read.
    Get = 0,
    /// A file was written, whatever was there.
    Set = 1,
    /// A node was made where none was.
    Create = 2,
    /// A node was changed that was there.
    Update = 3,
    /// A file was changed that was as expected.
    CompareAndSwap = 4,
    /// A node was deleted.
    Delete = 5,
    /// A file was deleted that was as expected.
    CompareAndDelete = 6,
    /// A node's time was over.
    Expire = 7,
}

impl Action {
    /// The action with that number, if there is one.
    pub(super) fn from_number(number: u32) -> Option<Action> {
        const ALL: [Action; 8] = [
            Action::Get,
            Action::Set,
            Action::Create,
            Action::Update,
            Action::CompareAndSwap,
            Action::Delete,
            Action::CompareAndDelete,
            Action::Expire,
        ];
        ALL.into_iter().find(|action| *action as u32 == number)
    }

    /// etcd's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Get => "get",
            Action::Set => "set",
            Action::Create => "create",
            Action::Update => "update",
            Action::CompareAndSwap => "compareAndSwap",
            Action::Delete => "delete",
            Action::CompareAndDelete => "compareAndDelete",
            Action::Expire => "expire",
        }
    }
}

/// A node as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeExtern {
    /// The whole path: "/1/foo".
    pub key: Bytes,
    /// What a file holds; nothing for a directory, nor in the event of a deletion.
    pub value: Option<Bytes>,
    /// Whether it is a directory.
    pub dir: bool,
    /// When its time is over, in ns since 1970.
    pub expires_ns: Option<i64>,
    /// What is left of its time in seconds, rounded up, never below 0. 0 is not shown.
    pub ttl: i64,
    /// What a listed directory holds, in key order, hidden nodes left out.
    pub nodes: NodeExterns,
    /// The index of the last change.
    pub modified: u64,
    /// The index at which it was made.
    pub created: u64,
}

impl NodeExtern {
    /// The node without what it holds.
    pub(super) fn alone(&self) -> NodeExtern {
        NodeExtern {
            key: self.key.clone(),
            value: self.value.clone(),
            nodes: NodeExterns::new(),
            ..*self
        }
    }

    /// Whether the two are the same but for what they hold.
    pub(super) fn equals_alone(&self, other: &NodeExtern) -> bool {
        let numbers = |node: &NodeExtern| (node.expires_ns, node.ttl, node.modified, node.created);
        self.key == other.key
            && self.value == other.value
            && self.dir == other.dir
            && numbers(self) == numbers(other)
    }
}

/// A change of the tree; watchers share one.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub action: Action,
    /// The node after it.
    pub node: NodeExtern,
    /// The node before it, if there was one.
    pub prev: Option<NodeExtern>,
    /// The tree's index after it.
    pub index: u64,
    /// Only a time to live was renewed: no watcher hears of it, no scan of the history finds it.
    pub refresh: bool,
    /// What went with a directory, all whole paths, the directory's own not among them: whoever
    /// watches one of these hears of it, hidden or not. The history does not keep it.
    pub removed: Vec<Bytes>,
    /// For whoever sends it: its encoding, made once for all.
    pub encoding: OnceLock<Bytes>,
}

impl Event {
    /// What it takes as a row or in a queue, in bytes, roughly.
    pub fn weight(&self) -> usize {
        let removed: usize = self.removed.iter().map(Bytes::len).sum();
        self.node_bytes() + removed
    }

    /// The same without the paths of what was removed, which may be a million.
    pub fn node_bytes(&self) -> usize {
        const NUMBERS_BYTES: usize = 64;
        let node = |node: &NodeExtern| node.key.len() + node.value.as_ref().map_or(0, Bytes::len);
        NUMBERS_BYTES + node(&self.node) + self.prev.as_ref().map_or(0, node)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        // `removed` serves live watchers only and does not survive a restart.
        self.action == other.action
            && self.node == other.node
            && self.prev == other.prev
            && self.index == other.index
            && self.refresh == other.refresh
    }
}
