//! A model of the v2 tree: all past states of every path, and every event.
//!
//! Written from etcd's `server/v2store` (store.go, node.go, event_history.go). No history is cut,
//! so that reads at an older index can be checked too.

mod answers;
mod change;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use answers::{Event, Node, TreeError, code};
pub use read::concerns;

/// The size of members' history, in events.
pub const HISTORY: u64 = 1000;

/// The state of a path from one index on.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// A file's value; `None` for a directory.
    pub value: Option<Bytes>,
    /// The index of its creation.
    pub created: u64,
    /// The index of its last change.
    pub modified: u64,
    /// Its expiry time; 0 for none.
    pub expires_ns: i64,
    /// The index at which its TTL was set.
    pub ttl_set: u64,
}

impl State {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.value.is_none()
    }
}

/// All states of the tree.
pub struct Tree {
    index: u64,
    /// The states of each path, oldest first, with their first index; `None` where there is no
    /// node.
    paths: BTreeMap<Bytes, Vec<(u64, Option<State>)>>,
    /// The event of every index, from 1 on.
    events: Vec<Option<Event>>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// A tree with the nodes that always exist.
    pub fn new() -> Tree {
        let dir = State {
            value: None,
            created: 0,
            modified: 0,
            expires_ns: 0,
            ttl_set: 0,
        };
        let fixed = ["/", "/0", "/1"].map(|path| {
            let path = Bytes::from_static(path.as_bytes());
            (path, vec![(0, Some(dir.clone()))])
        });
        Tree {
            index: 0,
            paths: fixed.into(),
            events: Vec::new(),
        }
    }

    /// The index of the last change.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Advances the index by a change that is not visible.
    pub fn touch(&mut self) {
        self.index += 1;
        self.events.push(None);
    }

    /// The event of that index, if it is visible to clients.
    pub fn event(&self, index: u64) -> Option<&Event> {
        let at = usize::try_from(index.checked_sub(1)?).ok()?;
        self.events.get(at)?.as_ref()
    }

    /// The state of a path after that index.
    pub fn was(&self, path: &[u8], index: u64) -> Option<&State> {
        let versions = self.paths.get(path)?;
        let later = versions.partition_point(|(from, _)| *from <= index);
        versions[..later].last()?.1.as_ref()
    }

    /// Every path that exists after that index.
    pub fn all(&self, index: u64) -> impl Iterator<Item = (&Bytes, &State)> {
        let paths = self.paths.keys();
        paths.filter_map(move |path| Some((path, self.was(path, index)?)))
    }

    /// The next expiry among nodes whose TTL was set after `spared`, in the tree of an index.
    pub fn next_expiry(&self, spared: u64, index: u64) -> Option<i64> {
        let all = self.all(index).map(|(_, state)| state);
        let ending = all.filter(|state| state.expires_ns != 0 && spared < state.ttl_set);
        ending.map(|state| state.expires_ns).min()
    }

    fn now(&self, path: &[u8]) -> Option<&State> {
        self.was(path, self.index)
    }

    /// Sets a path's state from the next index on.
    fn put(&mut self, path: &[u8], state: Option<State>) {
        let path = Bytes::copy_from_slice(path);
        let from = self.index + 1;
        let versions = self.paths.entry(path).or_default();
        versions.retain(|(index, _)| *index != from);
        versions.push((from, state));
    }

    fn refuse<T>(&self, code: u16, cause: &[u8]) -> Result<T, TreeError> {
        Err(refusal(code, cause, self.index))
    }
}

fn refusal(code: u16, cause: &[u8], index: u64) -> TreeError {
    TreeError {
        code,
        cause: Bytes::copy_from_slice(cause),
        index,
    }
}

/// Every prefix of a path, itself last: "/1", "/1/a", "/1/a/b". For "/" only "/".
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = (1..=path.len()).filter(|end| *end == path.len() || path[*end] == b'/');
    ends.map(|end| &path[..end])
}

/// The common beginning of all paths below this one.
fn stem(path: &[u8]) -> Vec<u8> {
    let mut stem = path.to_vec();
    if path != b"/" {
        stem.push(b'/');
    }
    stem
}
