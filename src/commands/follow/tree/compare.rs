//! Which nodes differ between a listing and the standby, at one index.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use keelson_proto::internal::{ReplicatedTree, TreeEventNode};
use keelson_store::Store;
use keelson_store::internals::{NodeExtern, WalkScope};

use super::COMMAND_BYTES;
use super::source::ListedDirectory;

/// The root of the keys API, as a whole path.
const KEYS: &[u8] = b"/1";

/// A directory to be listed.
#[derive(Debug)]
pub(super) struct AskedDirectory {
    /// The whole path.
    path: Vec<u8>,
    /// With everything below it but hidden nodes, or with its children alone.
    pub(super) is_recursive: bool,
}

impl AskedDirectory {
    /// The path in the keys API.
    pub(super) fn shown_path(&self) -> &[u8] {
        match &self.path[KEYS.len()..] {
            b"" => b"/",
            path => path,
        }
    }

    /// Whether it begins at the root.
    pub(super) fn is_all(&self) -> bool {
        self.path == KEYS
    }
}

/// The directories that are still to be compared.
pub(super) struct Comparison(VecDeque<AskedDirectory>);

impl Comparison {
    /// Of the root.
    pub(super) fn new() -> Comparison {
        let mut comparison = Comparison(VecDeque::new());
        comparison.add([KEYS.to_vec()]);
        comparison
    }

    /// And of these whole paths.
    pub(super) fn add(&mut self, paths: impl IntoIterator<Item = Vec<u8>>) {
        let asked = paths.into_iter().map(|path| AskedDirectory {
            path,
            is_recursive: true,
        });
        self.0.extend(asked);
    }

    pub(super) fn next(&mut self) -> Option<AskedDirectory> {
        self.0.pop_front()
    }

    /// Instead of a directory with everything below it, first it, and then its children.
    pub(super) fn split(&mut self, asked: AskedDirectory) {
        self.0.push_front(AskedDirectory {
            is_recursive: false,
            ..asked
        });
    }
}

/// What follows from a listing.
pub(super) struct Differing {
    /// Commands that make the standby, which is at the listing's index, as it is listed.
    pub(super) parts: Vec<ReplicatedTree>,
    /// The directories that are to be compared as well.
    pub(super) children: Vec<Vec<u8>>,
}

impl Differing {
    /// Of a directory. It takes long if that has many nodes.
    pub(super) fn find(asked: &AskedDirectory, listed: ListedDirectory, store: &Store) -> Self {
        let scope = WalkScope {
            recursive: asked.is_recursive,
            hidden: false,
        };
        let mut ours = store.tree_below(&asked.path, scope);
        if !asked.is_all() {
            ours.splice(..0, store.tree_node(&asked.path));
        }
        let theirs = listed.nodes.unwrap_or_default();
        let is_root = |node: &TreeEventNode| node.key == KEYS;
        let theirs: Vec<_> = theirs.into_iter().filter(|node| !is_root(node)).collect();
        let is_child = |node: &&TreeEventNode| node.dir && node.key != asked.path;
        let children = match asked.is_recursive {
            true => Vec::new(),
            false => {
                let children = theirs.iter().filter(is_child);
                children.map(|node| node.key.to_vec()).collect()
            }
        };
        Differing {
            parts: parts(listed.index, &ours, theirs),
            children,
        }
    }
}

/// Both lists have parents before their children.
fn parts(index: u64, ours: &[NodeExtern], theirs: Vec<TreeEventNode>) -> Vec<ReplicatedTree> {
    let named: BTreeSet<_> = theirs.iter().map(|node| node.key.clone()).collect();
    let known: BTreeMap<_, _> = ours.iter().map(|node| (&node.key, node)).collect();
    let mut gone: Vec<bytes::Bytes> = Vec::new();
    for node in ours.iter().filter(|node| !named.contains(&node.key)) {
        let rest = gone
            .last()
            .and_then(|last| node.key.strip_prefix(&last[..]));
        if !rest.is_some_and(|rest| rest.starts_with(b"/")) {
            gone.push(node.key.clone());
        }
    }
    let begin = || ReplicatedTree {
        after: index,
        index,
        ..ReplicatedTree::default()
    };
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (begin(), 0);
    part.gone = gone;
    for node in theirs {
        if known
            .get(&node.key)
            .is_some_and(|known| is_same(known, &node))
        {
            continue;
        }
        bytes += 64 + node.key.len() + node.value.as_ref().map_or(0, |value| value.len());
        part.nodes.push(node);
        if COMMAND_BYTES <= bytes {
            parts.push(std::mem::replace(&mut part, begin()));
            bytes = 0;
        }
    }
    parts.push(part);
    parts
}

fn is_same(ours: &NodeExtern, theirs: &TreeEventNode) -> bool {
    ours.dir == theirs.dir
        && ours.value == theirs.value
        && ours.expires_ns.unwrap_or_default() == theirs.expires_ns
        && (ours.created, ours.modified) == (theirs.created, theirs.modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(key: &'static str, modified: u64) -> NodeExtern {
        NodeExtern {
            key: key.into(),
            modified,
            dir: true,
            ..NodeExtern::default()
        }
    }

    fn theirs(key: &'static str, modified: u64) -> TreeEventNode {
        TreeEventNode {
            key: key.into(),
            modified,
            dir: true,
            ttl: 9,
            ..TreeEventNode::default()
        }
    }

    #[test]
    fn what_differs_is_put_right_and_what_is_not_there_is_removed_once() {
        let here = [
            ours("/1/a", 1),
            ours("/1/a/b", 1),
            ours("/1/ab", 1),
            ours("/1/c", 1),
            ours("/1/d", 1),
        ];
        let there = vec![theirs("/1/c", 1), theirs("/1/d", 2), theirs("/1/e", 2)];
        let parts = parts(7, &here, there);
        let [part] = &parts[..] else {
            panic!("{parts:?}");
        };
        assert_eq!((part.after, part.index), (7, 7));
        assert_eq!(part.gone, ["/1/a", "/1/ab"]);
        let keys: Vec<_> = part.nodes.iter().map(|node| &node.key[..]).collect();
        assert_eq!(keys, [b"/1/d", b"/1/e"]);
    }

    #[test]
    fn a_directory_that_is_too_large_is_read_child_by_child() {
        let mut comparison = Comparison::new();
        comparison.add([b"/1/_h".to_vec()]);
        let asked = comparison.next().unwrap();
        assert!(asked.is_all() && asked.is_recursive);
        assert_eq!(asked.shown_path(), b"/");
        comparison.split(asked);
        let asked = comparison.next().unwrap();
        assert!(asked.is_all() && !asked.is_recursive);
        let hidden = comparison.next().unwrap();
        assert_eq!(hidden.shown_path(), b"/_h");
        assert!(comparison.next().is_none());
    }
}
