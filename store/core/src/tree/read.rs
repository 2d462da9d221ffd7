//! Reads: a node, a listing of a directory, and past events.

use std::sync::Arc;

use bytes::Bytes;

use super::arena::{Content, Id, ROOT};
use super::walk::{self, WalkScope};
use super::{ErrorCode, Event, NodeExtern, Tree, TreeError, path};

/// Nanoseconds in a second.
const SECOND_NS: i64 = 1_000_000_000;

/// The error code for a path without a node, and the part of the path where it ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Miss<'a> {
    pub(super) code: ErrorCode,
    pub(super) at: &'a [u8],
}

impl Tree {
    /// The node at a path. A directory comes with its children, or all descendants if recursive, in
    /// key order and without hidden nodes.
    ///
    /// # Errors
    /// 100 and 104: there is no node at the path, or a file in it.
    pub fn get(&self, path: &[u8], recursive: bool, now_ns: i64) -> Result<NodeExtern, TreeError> {
        self.list(path, recursive, now_ns, usize::MAX)
    }

    /// The same, if the listing takes at most `bytes_max` bytes, roughly, counted with whole keys:
    /// for nested names they grow with the square of the depth.
    ///
    /// # Errors
    /// Those of [`Tree::get`], and 209.
    pub fn list(
        &self,
        path: &[u8],
        recursive: bool,
        now_ns: i64,
        bytes_max: usize,
    ) -> Result<NodeExtern, TreeError> {
        let path = path::clean(path);
        let id = self.expect(&path)?;
        let mut top = self.show(id, Bytes::copy_from_slice(&path), now_ns);
        if top.dir {
            let reach = WalkScope {
                recursive,
                hidden: false,
            };
            let below = walk::below_within(&self.arena, id, &top.key, reach, bytes_max);
            let Some(below) = below else {
                let mib = bytes_max >> 20;
                let cause = format!(
                    "the listing takes more than {mib} MiB: read its directories one by one"
                );
                return Err(self.refuse(ErrorCode::ListingTooLarge, cause.as_bytes()));
            };
            self.put_into(&mut top, below, now_ns);
        }
        Ok(top)
    }

    /// The files below a directory without hidden ones, and the bytes of their paths and values;
    /// `None` if there are more than `nodes_max` nodes.
    ///
    /// # Errors
    /// 100 and 104: there is no node at the path, or a file in it.
    pub fn size_below(
        &self,
        path: &[u8],
        nodes_max: usize,
    ) -> Result<Option<(u64, u64)>, TreeError> {
        let path = path::clean(path);
        let id = self.expect(&path)?;
        Ok(walk::size_below(&self.arena, id, &path, nodes_max))
    }

    /// The nodes below a directory without their children, parents first; none if there is no
    /// directory. No node has a remaining time to live.
    pub fn below(&self, path: &[u8], scope: WalkScope) -> Vec<NodeExtern> {
        let path = path::clean(path);
        let Ok(top) = self.find(&path) else {
            return Vec::new();
        };
        let below = walk::below(&self.arena, top, &path, scope).into_iter();
        below
            .map(|met| self.show(met.id, met.key, i64::MAX))
            .collect()
    }

    fn put_into(&self, top: &mut NodeExtern, below: Vec<walk::Visited>, now_ns: i64) {
        // Incomplete directories, each nested in the one before.
        let mut open = vec![std::mem::take(top)];
        for met in below {
            close(&mut open, met.depth);
            open.push(self.show(met.id, met.key, now_ns));
        }
        close(&mut open, 1);
        *top = open.pop().expect("the first is never closed");
    }

    /// The first event from index `since` on that concerns the path, or a path below it if
    /// recursive. `None` if there is none yet, and for `since` 0.
    ///
    /// # Errors
    /// 401: the history does not reach back to `since`.
    pub fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Event>>, TreeError> {
        if since == 0 {
            return Ok(None);
        }
        let oldest = self.history.oldest();
        if since < oldest {
            let cause = format!("the requested history has been cleared [{oldest}/{since}]");
            return Err(self.refuse(ErrorCode::EventIndexCleared, cause.as_bytes()));
        }
        Ok(self.history.find(&path::clean(path), recursive, since))
    }

    /// The node at a clean path.
    pub(super) fn expect(&self, path: &[u8]) -> Result<Id, TreeError> {
        self.find(path)
            .map_err(|miss| self.refuse(miss.code, miss.at))
    }

    pub(super) fn find<'a>(&self, path: &'a [u8]) -> Result<Id, Miss<'a>> {
        let (mut at, mut end) = (ROOT, 0);
        for name in path::names(path) {
            let Some(children) = self.arena[at].children() else {
                let (code, at) = (ErrorCode::NotDir, &path[..end]);
                return Err(Miss { code, at });
            };
            end += 1 + name.len();
            let Some(child) = children.get(name) else {
                let (code, at) = (ErrorCode::KeyNotFound, &path[..end]);
                return Err(Miss { code, at });
            };
            at = *child;
        }
        Ok(at)
    }

    pub(super) fn is_dir(&self, id: Id) -> bool {
        self.arena[id].children().is_some()
    }

    /// A node without its children.
    pub(super) fn show(&self, id: Id, key: Bytes, now_ns: i64) -> NodeExtern {
        let entry = &self.arena[id];
        let (value, dir) = match &entry.content {
            Content::File(value) => (Some(value.clone()), false),
            Content::Dir(_) => (None, true),
        };
        let mut node = NodeExtern {
            key,
            value,
            dir,
            modified: entry.modified,
            created: entry.created,
            ..NodeExtern::default()
        };
        if entry.expires_ns != 0 {
            node.expires_ns = Some(entry.expires_ns);
            node.ttl = seconds_left(entry.expires_ns, now_ns);
        }
        node
    }

    pub(super) fn refuse(&self, code: ErrorCode, cause: &[u8]) -> TreeError {
        TreeError {
            code,
            cause: Bytes::copy_from_slice(cause),
            index: self.index(),
        }
    }
}

/// Moves complete directories into their parents until `left` remain.
fn close(open: &mut Vec<NodeExtern>, left: usize) {
    while left < open.len() {
        let node = open.pop().expect("more than that are left");
        let parent = open.last_mut().expect("the first is never closed");
        parent.nodes.push(node);
    }
}

/// Rounds up. etcd shows overdue nodes with negative seconds, which some clients cannot parse.
fn seconds_left(expires_ns: i64, now_ns: i64) -> i64 {
    let left = expires_ns.saturating_sub(now_ns).max(0);
    left / SECOND_NS + i64::from(left % SECOND_NS != 0)
}
