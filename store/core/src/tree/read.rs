//! Reading: one node, or a directory with what it holds; and the events of the past.

use std::sync::Arc;

use bytes::Bytes;

use super::arena::{Content, Id, ROOT};
use super::walk::{self, WalkScope};
use super::{ErrorCode, Event, NodeExtern, Tree, TreeError, path};

/// Nanoseconds in a second.
const SECOND_NS: i64 = 1_000_000_000;

/// Why a path leads nowhere, and the part of it where that shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Miss<'a> {
    pub(super) code: ErrorCode,
    pub(super) at: &'a [u8],
}

impl Tree {
    /// The node at a path, and what it holds if it is a directory: its children, or all below. In
    /// key order, hidden nodes left out.
    pub fn get(&self, path: &[u8], recursive: bool, now_ns: i64) -> Result<NodeExtern, TreeError> {
        self.list(path, recursive, now_ns, usize::MAX)
    }

    /// The same, if what a directory holds takes no more than `bytes_max` bytes, roughly, with
    /// whole keys: of names within each other those take the square.
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

    fn put_into(&self, top: &mut NodeExtern, below: Vec<walk::Visited>, now_ns: i64) {
        // Directories that are not complete yet, each within the one before.
        let mut open = vec![std::mem::take(top)];
        for met in below {
            close(&mut open, met.depth);
            open.push(self.show(met.id, met.key, now_ns));
        }
        close(&mut open, 1);
        *top = open.pop().expect("the first is never closed");
    }

    /// The first event since that index that tells of the path, or of what is below it. None if
    /// that has not happened yet, as everything since 0.
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

    /// The node at a clean path, or the refusal.
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

    /// A node as it is, without what it holds.
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

/// Puts complete directories into those they are in until so many are left.
fn close(open: &mut Vec<NodeExtern>, left: usize) {
    while left < open.len() {
        let node = open.pop().expect("more than that are left");
        let parent = open.last_mut().expect("the first is never closed");
        parent.nodes.push(node);
    }
}

/// Rounded up. etcd shows overdue nodes with seconds below zero; some clients cannot read that.
fn seconds_left(expires_ns: i64, now_ns: i64) -> i64 {
    let left = expires_ns.saturating_sub(now_ns).max(0);
    left / SECOND_NS + i64::from(left % SECOND_NS != 0)
}
