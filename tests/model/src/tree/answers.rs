//! The model's answers: events, nodes and errors, as a v2 client sees them.

use bytes::Bytes;

/// etcd's numbers of errors.
pub mod code {
    /// No node at that path.
    pub const KEY_NOT_FOUND: u16 = 100;
    /// The node does not have the expected value or index.
    pub const TEST_FAILED: u16 = 101;
    /// A directory where a file is needed.
    pub const NOT_FILE: u16 = 102;
    /// A file where a directory is needed.
    pub const NOT_DIR: u16 = 104;
    /// A node exists already.
    pub const NODE_EXIST: u16 = 105;
    /// The root cannot be changed.
    pub const ROOT_READ_ONLY: u16 = 107;
    /// A directory with children, in a request without `recursive`.
    pub const DIR_NOT_EMPTY: u16 = 108;
    /// The history does not reach back that far.
    pub const EVENT_INDEX_CLEARED: u16 = 401;
}

/// A node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The whole path: "/1/foo".
    pub key: Bytes,
    /// The value of a file; `None` for a directory, and in the event of a deletion.
    pub value: Option<Bytes>,
    /// Whether it is a directory.
    pub dir: bool,
    /// The expiry time in ns since 1970.
    pub expires_ns: Option<i64>,
    /// The remaining time to live in seconds, rounded up, at least 0.
    pub ttl: i64,
    /// The children of a listed directory, in key order, without hidden nodes.
    pub nodes: Vec<Node>,
    /// The index of the last change.
    pub modified: u64,
    /// The index of the creation.
    pub created: u64,
}

/// A change of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// etcd's name for the change: "compareAndSwap".
    pub action: &'static str,
    /// The node after the change.
    pub node: Node,
    /// The node before the change, if it existed.
    pub prev: Option<Node>,
    /// The tree's index after the change.
    pub index: u64,
    /// Whether only a time to live was renewed.
    pub refresh: bool,
    /// The whole paths of everything below a removed directory, sorted by names.
    pub removed: Vec<Bytes>,
}

impl Event {
    /// The event as a member's history keeps it.
    pub fn in_history(&self) -> Event {
        Event {
            removed: Vec::new(),
            ..self.clone()
        }
    }
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeError {
    /// One of [`code`].
    pub code: u16,
    /// The subject: a whole path ("/1/foo"), or values that differ.
    pub cause: Bytes,
    /// The tree's index at that time.
    pub index: u64,
}
