//! The v2 tree: files and directories with a time to live, one index for the whole tree, and a
//! history of at most a thousand events and 64 MiB.
//!
//! Paths are whole: "/1/foo" is "/foo" of the keys API, and "/2/..." belongs to the auth API. Time
//! is an argument everywhere; the same requests give the same tree on every member. The model is
//! etcd's `v2store`, up to the order of its errors.
//!
//! A path may have ten thousand names, so no function here is recursive: the nodes are in a slab
//! (`arena.rs`) and linked by number.
//!
//! ```
//! use keelson_core::tree::Tree;
//! use keelson_proto::internal::TreeRequest;
//!
//! let mut tree = Tree::new();
//! let set = TreeRequest { path: "/1/foo".into(), value: "bar".into(), ..Default::default() };
//! assert_eq!(tree.apply(&set)?.index, 1);
//! let node = tree.get(b"/1/foo", false, 0)?;
//! assert_eq!(node.value.as_deref(), Some(&b"bar"[..]));
//! assert_eq!(tree.scan(b"/1", true, 1)?.map(|event| event.index), Some(1));
//! # Ok::<(), keelson_core::tree::TreeError>(())
//! ```

mod arena;
mod change;
mod digest;
mod error;
mod event;
mod expiry;
mod history;
mod layout;
mod loader;
mod nodes;
mod path;
mod read;
mod replicate;
mod rows;
mod walk;
pub mod watchers;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

pub use error::{ErrorCode, TreeError};
pub use event::{Action, Event, NodeExtern};
pub(crate) use history::BYTES_MAX as HISTORY_BYTES_MAX;
pub use layout::{EVENTS_MAX, KEYS, StoredRow, TreeRows};
pub(crate) use loader::Loader;
pub use nodes::NodeExterns;
pub(crate) use rows::TreeRow;
pub use walk::WalkScope;

/// The maximum length of a path in a request, with the "/1" of the keys API, in bytes. etcd closes
/// a connection whose first request line has more than 4 KiB; with a path of 31,000 names every
/// listing took a gigabyte.
pub const PATH_BYTES_MAX: usize = 4096;

use arena::{Arena, Id};
use history::EventHistory;

/// Files and directories. One owner changes the tree; other threads may read it under a lock.
pub struct Tree {
    arena: Arena,
    /// Expiry times, with the node that expires.
    deadlines: BTreeSet<(i64, Id)>,
    history: EventHistory,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// An empty tree: the fixed nodes "/", "/0" and "/1", which no request can change.
    pub fn new() -> Tree {
        Tree {
            arena: Arena::new(),
            deadlines: BTreeSet::new(),
            history: EventHistory::default(),
        }
    }

    /// The index of the last change: etcd's X-Etcd-Index.
    pub fn index(&self) -> u64 {
        self.history.newest()
    }

    /// The number of nodes besides the fixed ones.
    pub fn len(&self) -> usize {
        self.arena.len()
    }

    /// Whether there are no nodes besides the fixed ones.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Advances the index for a change that clients do not see, such as those of etcd's members.
    pub fn touch(&mut self) {
        self.history.push(None);
    }
}
