//! The v2 tree as a part of the state: its commands, its rows, and reads.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::{ReplicatedTree, TreeExpire, TreeRequest};

use super::error::{Error, StateError};
use super::gate::TREE_REPLICATION;
use super::{ReadView, Response, StateMachine};
use crate::Term;
use crate::engine::{Change, Engine, Table};
use crate::tree::{ErrorCode, Event, Loader, NodeExtern, Tree, TreeError, WalkScope};

impl StateMachine {
    pub(super) fn apply_tree(
        &mut self,
        request: &TreeRequest,
        events: &mut Vec<Arc<Event>>,
    ) -> Result<Response, Error> {
        let event = self.shared.tree.write().apply(request)?;
        self.hash.event(&event);
        events.push(Arc::clone(&event));
        Ok(Response::Tree(event))
    }

    pub(super) fn apply_expire(
        &mut self,
        request: &TreeExpire,
        term: Term,
        events: &mut Vec<Arc<Event>>,
    ) -> Response {
        // Forwarded to a later leader, which decides by its own tenure which nodes to spare.
        if ![0, term.0].contains(&request.term) {
            return Response::Empty;
        }
        let expired = self.shared.tree.write().expire(request);
        expired.iter().for_each(|event| self.hash.event(event));
        events.extend(expired);
        Response::Empty
    }

    /// Applies a part of another cluster's tree. Returns its events.
    pub(super) fn replicate_tree(&mut self, request: &ReplicatedTree) -> Vec<Arc<Event>> {
        let replicated = self.shared.tree.write().replicate(request);
        let events = &replicated.events;
        events.iter().for_each(|event| self.hash.event(event));
        let corrected = &replicated.corrected;
        corrected.iter().for_each(|node| self.hash.node(node));
        replicated.events
    }

    /// Advances the tree's index: etcd keeps cluster metadata in the v2 tree, so clients see the
    /// index move. That of a standby is the other cluster's, once all members keep it so.
    pub(super) fn touch_tree(&mut self) {
        let registry = &self.registry;
        let is_replicated = registry.is_standby && TREE_REPLICATION <= registry.command_version();
        if !is_replicated {
            self.shared.tree.write().touch();
        }
    }

    /// Converts the changes of the tree since the last rotation to rows. A read lock is enough,
    /// since the applier is the only writer.
    pub(super) fn rotate_tree(&mut self) {
        let rows = self.shared.tree.read().stale_rows();
        for (key, row) in rows {
            let change = row.map_or(Change::Delete, Change::Put);
            self.changed.insert((Table::Tree, key), change);
        }
        self.shared.tree.write().cleaned();
    }
}

impl ReadView {
    /// The node at a path of the v2 tree, with its children if it is a directory, and the tree's
    /// index.
    ///
    /// # Errors
    /// 100 and 104: there is no node at the path, or a file in it.
    pub fn tree_get(
        &self,
        path: &[u8],
        recursive: bool,
        now_ns: i64,
    ) -> Result<(NodeExtern, u64), TreeError> {
        self.require_tree()?;
        let tree = self.shared.tree.read();
        let node = tree.get(path, recursive, now_ns)?;
        Ok((node, tree.index()))
    }

    /// The same, if the listing takes at most `bytes_max` bytes.
    ///
    /// # Errors
    /// Those of [`ReadView::tree_get`], and 209.
    pub fn tree_list(
        &self,
        path: &[u8],
        recursive: bool,
        now_ns: i64,
        bytes_max: usize,
    ) -> Result<(NodeExtern, u64), TreeError> {
        self.require_tree()?;
        let tree = self.shared.tree.read();
        let node = tree.list(path, recursive, now_ns, bytes_max)?;
        Ok((node, tree.index()))
    }

    /// The files below a directory without hidden ones, and the bytes of their paths and values;
    /// `None` if there are more than `nodes_max` nodes. Changes of the tree wait meanwhile.
    ///
    /// # Errors
    /// Those of [`ReadView::tree_get`].
    pub fn tree_size(
        &self,
        path: &[u8],
        nodes_max: usize,
    ) -> Result<Option<(u64, u64)>, TreeError> {
        self.require_tree()?;
        self.shared.tree.read().size_below(path, nodes_max)
    }

    /// The nodes below a directory of the v2 tree without their children, parents first; none if
    /// there is no directory. Changes of the tree wait meanwhile.
    pub fn tree_below(&self, path: &[u8], scope: WalkScope) -> Vec<NodeExtern> {
        self.shared.tree.read().below(path, scope)
    }

    fn require_tree(&self) -> Result<(), TreeError> {
        self.require_unfenced().map_err(|error| TreeError {
            code: ErrorCode::Corrupt,
            cause: error.to_string().into(),
            index: self.tree_index(),
        })
    }

    /// The index of the v2 tree's last change.
    pub fn tree_index(&self) -> u64 {
        self.shared.tree.read().index()
    }

    /// The first event of the v2 tree at or after `since` that concerns the path.
    ///
    /// # Errors
    /// 401: the history does not reach back to `since`.
    pub fn tree_scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Event>>, TreeError> {
        self.require_tree()?;
        self.shared.tree.read().scan(path, recursive, since)
    }

    /// The expiry of the v2 node that expires next, in ns since 1970, among those whose time to
    /// live was set after index `spared_index`; 0 excludes none.
    pub fn tree_next_expiry(&self, spared_index: u64) -> Option<i64> {
        self.shared.tree.read().next_expiry(spared_index)
    }

    /// A digest of the v2 tree: nodes, history and index.
    pub fn tree_digest(&self) -> u64 {
        self.shared.tree.read().digest()
    }
}

/// The rows of a new cluster's tree.
pub(super) fn founded_by(members: usize) -> Vec<(Bytes, Bytes)> {
    let mut tree = Tree::new();
    (0..members).for_each(|_| tree.touch());
    tree.rows()
}

/// A row of the tree; if it is the row with the tree's index, with the index raised.
pub(super) fn bumped(key: &[u8], row: Bytes, by: u64) -> Bytes {
    Tree::bumped_head(key, &row, by).unwrap_or(row)
}

/// Loads the tree from the engine.
pub(super) fn load(engine: &dyn Engine) -> Result<Tree, StateError> {
    let mut loader = Loader::default();
    let mut wrong = None;
    engine.range(
        Table::Tree,
        Bound::Unbounded,
        Bound::Unbounded,
        &mut |key, row| {
            wrong = loader.push(key, row).err();
            wrong.is_none()
        },
    )?;
    let tree = wrong.map_or_else(|| loader.finish(), Err);
    tree.map_err(|text| StateError::Damaged(format!("v2 tree: {text}")))
}
