//! The v2 tree: files and directories with a time to live, one index for all of it, and the last
//! thousand events, or as many as weigh 64 MiB.
//!
//! Paths are whole: "/1/foo" is what clients of the keys API call "/foo", "/2/..." is the auth
//! API's. Time is an argument everywhere; the same requests give the same tree on every member.
//! etcd's `v2store` is the model, to the order of its refusals.
//!
//! A path may have ten thousand names, so nothing here is recursive: the nodes lie in a slab
//! (`arena.rs`) and are linked by number.
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
mod loader;
mod nodes;
mod path;
mod read;
mod rows;
mod walk;
pub mod watchers;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

pub use error::{ErrorCode, TreeError};
pub use event::{Action, Event, NodeExtern};
pub(crate) use history::BYTES_MAX as HISTORY_BYTES_MAX;
pub(crate) use loader::Loader;
pub use nodes::NodeExterns;
pub(crate) use rows::TreeRow;

/// The longest path that a request may name, with the "/1" of the keys API, in bytes. etcd closes a
/// connection whose first request line has more than 4 KiB; a path of 31,000 names made every
/// listing of it a gigabyte.
pub const PATH_BYTES_MAX: usize = 4096;

use arena::{Arena, Id};
use history::EventHistory;

/// Files and directories. One owner changes it; others may read it meanwhile, under a lock.
pub struct Tree {
    arena: Arena,
    /// When nodes end, and which.
    deadlines: BTreeSet<(i64, Id)>,
    history: EventHistory,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// A tree in which nothing has happened: "/", "/0" and "/1", which nobody can change.
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

    /// How many nodes there are besides those that are always there.
    pub fn len(&self) -> usize {
        self.arena.len()
    }

    /// Whether there are no others.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A change that clients do not see but that takes an index, as etcd's members do.
    pub fn touch(&mut self) {
        self.history.push(None);
    }
}
