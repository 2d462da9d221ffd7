//! What the v2 API needs of a member, beyond what `Backend` has.

use std::future::Future;
use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::tree::{Event, NodeExtern, TreeError};
use keelson_proto::internal::TreeRequest;

use super::stats::{LeaderStats, SelfStats};
use crate::Error;
use crate::edge::Backend;
use crate::tree::{ChangeError, Watch, WatchSpec};

/// How loud a member logs, as `/config/local/log` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What ends the member.
    Critical,
    /// What failed.
    Error,
    /// What may fail soon.
    Warning,
    /// What operators want to know.
    Notice,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// All of it.
    Trace,
}

/// A member, as the v2 API sees it.
pub trait TreeBackend: Backend {
    /// Reads a node from local state, at once, and the tree's index.
    ///
    /// # Errors
    /// 100, 104.
    fn tree_get(&self, path: &[u8], recursive: bool) -> Result<(NodeExtern, u64), TreeError>;

    /// The same, if what a directory holds takes no more than `bytes_max` bytes.
    ///
    /// # Errors
    /// 100, 104, 209.
    fn tree_list(
        &self,
        path: &[u8],
        recursive: bool,
        bytes_max: usize,
    ) -> Result<(NodeExtern, u64), TreeError>;

    /// Changes the tree, through the log. The event's `index` is the X-Etcd-Index.
    fn tree_change(
        &self,
        request: TreeRequest,
    ) -> impl Future<Output = Result<Arc<Event>, ChangeError>> + Send;

    /// Waits for changes, from the history or from now on.
    ///
    /// # Errors
    /// 401: the history does not reach back that far.
    fn tree_watch(&self, spec: WatchSpec) -> Result<Watch, TreeError>;

    /// Waits until what is committed now is applied here: `quorum=true`.
    fn read_index(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// The committed index and the term, for X-Raft-Index and X-Raft-Term.
    fn raft_mark(&self) -> (u64, u64);

    /// The wall clock, in ns since 1970.
    fn now_ns(&self) -> i64;

    /// Whether a member was removed, which is for ever.
    fn is_removed(&self, member: MemberId) -> bool;

    /// For `/v2/stats/self`.
    fn self_stats(&self) -> SelfStats;

    /// For `/v2/stats/leader`; `None` on any other member.
    fn leader_stats(&self) -> Option<LeaderStats>;

    /// How many nodes have expired since this member started.
    fn tree_expired(&self) -> u64;

    /// How many watches wait.
    fn tree_watchers(&self) -> u64;

    /// Logs so loud from now on.
    fn set_log_level(&self, level: LogLevel);
}
