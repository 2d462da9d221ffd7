//! Events and nodes as clients see them.

use std::sync::OnceLock;

use bytes::Bytes;

use super::NodeExterns;

/// The kind of an event. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// A read.
    Get = 0,
    /// A file was written, whether it existed or not.
    Set = 1,
    /// A node was created.
    Create = 2,
    /// An existing node was changed.
    Update = 3,
    /// A file that met the condition was changed.
    CompareAndSwap = 4,
    /// A node was deleted.
    Delete = 5,
    /// A file that met the condition was deleted.
    CompareAndDelete = 6,
    /// A node expired.
    Expire = 7,
}

impl Action {
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

    /// The action with that number, if there is one.
    pub fn from_number(number: u32) -> Option<Action> {
        let mut all = Action::ALL.into_iter();
        all.find(|action| *action as u32 == number)
    }

    /// The action with etcd's name, if there is one.
    pub fn from_name(name: &str) -> Option<Action> {
        let mut all = Action::ALL.into_iter();
        all.find(|action| action.as_str() == name)
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

/// A node at one moment, as clients see it; etcd's `NodeExtern`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeExtern {
    /// The whole path: "/1/foo".
    pub key: Bytes,
    /// The value of a file; `None` for a directory, and in the event of a deletion.
    pub value: Option<Bytes>,
    /// Whether it is a directory.
    pub dir: bool,
    /// The expiry time in ns since 1970.
    pub expires_ns: Option<i64>,
    /// The remaining time to live in seconds, rounded up, at least 0. 0 is not shown.
    pub ttl: i64,
    /// The children of a listed directory, in key order, without hidden nodes.
    pub nodes: NodeExterns,
    /// The index of the last change.
    pub modified: u64,
    /// The index of the creation.
    pub created: u64,
}

impl NodeExtern {
    /// The node without its children.
    pub(super) fn alone(&self) -> NodeExtern {
        NodeExtern {
            key: self.key.clone(),
            value: self.value.clone(),
            nodes: NodeExterns::new(),
            ..*self
        }
    }

    /// Whether two nodes are equal apart from their children.
    pub(super) fn equals_alone(&self, other: &NodeExtern) -> bool {
        let numbers = |node: &NodeExtern| (node.expires_ns, node.ttl, node.modified, node.created);
        self.key == other.key
            && self.value == other.value
            && self.dir == other.dir
            && numbers(self) == numbers(other)
    }
}

/// A change of the tree; all watchers share one.
#[derive(Clone, Debug)]
pub struct Event {
    /// The kind of the change.
    pub action: Action,
    /// The node after the change.
    pub node: NodeExtern,
    /// The node before the change, if it existed.
    pub prev: Option<NodeExtern>,
    /// The tree's index after the change.
    pub index: u64,
    /// Whether only a time to live was renewed: neither watchers nor scans of the history get such
    /// events.
    pub refresh: bool,
    /// The whole paths of everything below a removed directory. Watchers of these paths get the
    /// event, hidden or not. The history does not keep them.
    pub removed: Vec<Bytes>,
    /// The encoding for clients, made once and shared.
    pub encoding: OnceLock<Bytes>,
}

impl Event {
    /// The approximate size as a row or in a queue, in bytes.
    pub fn weight(&self) -> usize {
        let removed: usize = self.removed.iter().map(Bytes::len).sum();
        self.node_bytes() + removed
    }

    /// The same without `removed`, which may have a million paths.
    pub fn node_bytes(&self) -> usize {
        const NUMBERS_BYTES: usize = 64;
        let node = |node: &NodeExtern| node.key.len() + node.value.as_ref().map_or(0, Bytes::len);
        NUMBERS_BYTES + node(&self.node) + self.prev.as_ref().map_or(0, node)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        // `removed` is for present watchers only, and is not persisted.
        self.action == other.action
            && self.node == other.node
            && self.prev == other.prev
            && self.index == other.index
            && self.refresh == other.refresh
    }
}
