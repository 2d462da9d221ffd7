//! Walking below a directory, without recursion.

use std::collections::btree_map;

use bytes::Bytes;

use super::arena::{Arena, Id};
use super::path;

/// What a node takes in an answer beside its key and its value, about.
const NODE_BYTES: usize = 160;

/// Which nodes a walk passes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct WalkScope {
    /// Those below the children.
    pub(super) recursive: bool,
    /// Those with hidden names, and what is below them.
    pub(super) hidden: bool,
}

/// A node that was met.
#[derive(Debug)]
pub(super) struct Visited {
    pub(super) id: Id,
    /// 1 for a child, 2 for a child's child.
    pub(super) depth: usize,
    /// Its whole path.
    pub(super) key: Bytes,
}

/// The nodes below a directory: parents before their children, siblings in key order.
pub(super) fn below(arena: &Arena, top: Id, path: &[u8], reach: WalkScope) -> Vec<Visited> {
    below_within(arena, top, path, reach, usize::MAX).unwrap_or_default()
}

/// The same, if their keys and values take no more than so many bytes, roughly.
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

/// A directory whose children are being met.
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
    /// Of the node met last.
    path: Vec<u8>,
    met: Vec<Visited>,
    /// Lengths of the paths that the last nodes met still lack. Each is the beginning of the next,
    /// so all of them are cut from one piece: ten thousand directories within each other would
    /// otherwise need memory for the square of that.
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
