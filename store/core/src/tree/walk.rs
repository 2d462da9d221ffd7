//! Iterative walks below a directory.

use std::collections::btree_map;

use bytes::Bytes;

use super::arena::{Arena, Id};
use super::path;

/// The approximate size of a node in an answer, besides key and value, in bytes.
const NODE_BYTES: usize = 160;

/// The scope of a walk.
#[derive(Clone, Copy, Debug)]
pub struct WalkScope {
    /// Include nodes below the children.
    pub recursive: bool,
    /// Include hidden nodes, and nodes below them.
    pub hidden: bool,
}

/// A visited node.
#[derive(Debug)]
pub(super) struct Visited {
    pub(super) id: Id,
    /// The depth: 1 for a child, 2 for a child's child.
    pub(super) depth: usize,
    /// Its whole path.
    pub(super) key: Bytes,
}

/// The nodes below a directory: parents before their children, siblings in key order.
pub(super) fn below(arena: &Arena, top: Id, path: &[u8], reach: WalkScope) -> Vec<Visited> {
    below_within(arena, top, path, reach, usize::MAX).unwrap_or_default()
}

/// The same, or `None` if keys and values take more than `bytes_max` bytes, roughly.
pub(super) fn below_within(
    arena: &Arena,
    top: Id,
    path: &[u8],
    reach: WalkScope,
    bytes_max: usize,
) -> Option<Vec<Visited>> {
    let mut bytes: usize = 0;
    let mut walk = Walk {
        path: path::stem(path).to_vec(),
        met: Vec::new(),
        uncut: Vec::new(),
    };
    let mut open = Vec::new();
    open.extend(OpenDir::new(arena, top, walk.path.len()));
    while let Some(dir) = open.last_mut() {
        let Some((name, &id)) = dir.children.next() else {
            open.pop();
            continue;
        };
        if !reach.hidden && path::is_hidden(name) {
            continue;
        }
        walk.back_to(dir.path_bytes);
        walk.meet(name, id, open.len());
        bytes = bytes.saturating_add(NODE_BYTES + walk.path.len() + arena[id].value_bytes());
        if bytes_max < bytes {
            return None;
        }
        if reach.recursive {
            open.extend(OpenDir::new(arena, id, walk.path.len()));
        }
    }
    walk.cut();
    Some(walk.met)
}

/// The number of files below a directory without the hidden ones, and the bytes of their paths and
/// values; `None` if there are more than `nodes_max` nodes.
pub(super) fn size_below(
    arena: &Arena,
    top: Id,
    path: &[u8],
    nodes_max: usize,
) -> Option<(u64, u64)> {
    let (mut nodes, mut files, mut bytes) = (0, 0, 0);
    let mut open = vec![(top, path::stem(path).len())];
    while let Some((dir, path_bytes)) = open.pop() {
        for (name, &id) in arena[dir].children().into_iter().flatten() {
            if path::is_hidden(name) {
                continue;
            }
            nodes += 1;
            if nodes_max < nodes {
                return None;
            }
            let path_bytes = path_bytes + 1 + name.len();
            if arena[id].children().is_some() {
                open.push((id, path_bytes));
            } else {
                files += 1;
                bytes += (path_bytes + arena[id].value_bytes()) as u64;
            }
        }
    }
    Some((files, bytes))
}

/// A directory whose children are being visited.
struct OpenDir<'a> {
    children: btree_map::Iter<'a, Bytes, Id>,
    path_bytes: usize,
}

impl<'a> OpenDir<'a> {
    fn new(arena: &'a Arena, id: Id, path_bytes: usize) -> Option<OpenDir<'a>> {
        let children = arena[id].children()?.iter();
        Some(OpenDir {
            children,
            path_bytes,
        })
    }
}

struct Walk {
    /// The path of the node visited last.
    path: Vec<u8>,
    met: Vec<Visited>,
    /// The lengths of the paths that the latest nodes still lack. Each is a prefix of the next, so
    /// all are slices of one buffer: for ten thousand nested directories, separate buffers would
    /// need memory for the square of that.
    uncut: Vec<usize>,
}

impl Walk {
    fn meet(&mut self, name: &[u8], id: Id, depth: usize) {
        path::push(&mut self.path, name);
        self.uncut.push(self.path.len());
        let key = Bytes::new();
        self.met.push(Visited { id, depth, key });
    }

    fn back_to(&mut self, path_bytes: usize) {
        if path_bytes < self.path.len() {
            self.cut();
            self.path.truncate(path_bytes);
        }
    }

    fn cut(&mut self) {
        if self.uncut.is_empty() {
            return;
        }
        let whole = Bytes::copy_from_slice(&self.path);
        let first = self.met.len() - self.uncut.len();
        for (met, end) in self.met[first..].iter_mut().zip(self.uncut.drain(..)) {
            met.key = match end == whole.len() {
                true => whole.clone(),
                false => whole.slice(..end),
            };
        }
    }
}
