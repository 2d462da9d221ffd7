//! The v2 requests of a `Store`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keelson_core::state::{self, Response};
use keelson_core::tree::{Event, NodeExtern, PATH_BYTES_MAX, TreeError};
use keelson_edge::v2::ChangeError;
use keelson_proto::internal::{Command, TreeRequest, command::Op};

use super::hub::{History, Watch, WatchSpec};
use crate::{Error, Store};

impl Store {
    /// Reads a node of the tree from local state without waiting, and returns it with the tree's
    /// index.
    ///
    /// # Errors
    /// etcd's: 100, 104.
    pub fn tree_get(&self, path: &[u8], recursive: bool) -> Result<(NodeExtern, u64), TreeError> {
        self.view().tree_get(path, recursive, now_ns())
    }

    /// As [`Store::tree_get`], if the children of a directory take at most `bytes_max` bytes.
    ///
    /// # Errors
    /// etcd's: 100, 104; and 209.
    pub fn tree_list(
        &self,
        path: &[u8],
        recursive: bool,
        bytes_max: usize,
    ) -> Result<(NodeExtern, u64), TreeError> {
        self.view().tree_list(path, recursive, now_ns(), bytes_max)
    }

    /// Changes the tree through the log.
    ///
    /// # Errors
    /// etcd's; `RequestTooLarge` for a path beyond [`PATH_BYTES_MAX`]. After a timeout the change
    /// may still be applied.
    pub async fn tree_change(&self, request: TreeRequest) -> Result<Arc<Event>, ChangeError> {
        if PATH_BYTES_MAX < request.path.len() {
            return Err(ChangeError::Other(Error::RequestTooLarge));
        }
        let view = self.view();
        view.require_unfenced().map_err(Error::from)?;
        if !view.has_tree_room(state::tree_cost(&request)) {
            return Err(ChangeError::Other(Error::State(state::Error::NoSpace)));
        }
        let command = Command {
            op: Some(Op::Tree(request)),
        };
        match self.submit_command(command).await? {
            Ok(Response::Tree(event)) => Ok(event),
            Ok(other) => Err(ChangeError::Other(crate::requests::unexpected(&other))),
            Err(state::Error::Tree(error)) => Err(ChangeError::Tree(error)),
            Err(error) => Err(ChangeError::Other(error.into())),
        }
    }

    /// Watches for changes at a path, in the history and from now on.
    ///
    /// # Errors
    /// 401: the history does not reach back to that index.
    pub fn tree_watch(&self, spec: WatchSpec) -> Result<Watch, TreeError> {
        self.inner.hub.watch(spec, self)
    }
}

/// Reads the present view each time: a snapshot from another member may replace it while a
/// watcher is being registered.
impl History for Store {
    fn index(&self) -> u64 {
        self.view().tree_index()
    }

    fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Event>>, TreeError> {
        self.view().tree_scan(path, recursive, since)
    }
}

/// The wall clock in ns since 1970: clients receive times to live as dates. Before 1970 and after
/// 2262 it is constant.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ns = since.map_or(0, |since| since.as_nanos());
    i64::try_from(ns).unwrap_or(i64::MAX)
}
