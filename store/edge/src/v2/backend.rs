//! The interface of a member for the v2 API, in addition to `Backend`.

use std::future::Future;
use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::tree::watchers::WatchSpec;
use keelson_core::tree::{Event, NodeExtern, TreeError};
use keelson_proto::internal::TreeRequest;

use crate::{Backend, Error};

/// The log level of a member, as `/config/local/log` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Errors that end the member.
    Critical,
    /// Failures.
    Error,
    /// Conditions that may lead to failures.
    Warning,
    /// Events that matter to operators.
    Notice,
    /// General events.
    Info,
    /// Details of events.
    Debug,
    /// All details.
    Trace,
}

/// Why a change of the tree failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// The tree refused the change; it is unchanged.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The change did not reach the tree, or its outcome is unknown.
    #[error(transparent)]
    Other(#[from] Error),
}

/// Why a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// A long poll's single event was delivered.
    Delivered,
    /// The unread events exceeded the limit for a watcher, in number or in bytes.
    Behind,
    /// The member stops, or a snapshot has replaced the history that the watch needed: an event
    /// may be missing.
    Cut,
}

/// A watch of the tree; dropping it unregisters it.
pub trait TreeWatch: Send + 'static {
    /// The index of the tree when the watch began.
    fn index(&self) -> u64;

    /// An event that is available without waiting.
    fn now(&mut self) -> Option<Arc<Event>>;

    /// The next event; `None` once the watch has ended, for the reason in [`TreeWatch::end`].
    fn next(&mut self) -> impl Future<Output = Option<Arc<Event>>> + Send;

    /// Why the watch has ended; `None` before.
    fn end(&self) -> Option<WatchEnd>;
}

/// A member as the v2 API uses it.
pub trait TreeBackend: Backend {
    /// A watch of the tree.
    type Watch: TreeWatch;

    /// Reads a node from local state without waiting, and returns it with the tree's index.
    ///
    /// # Errors
    /// 100, 104.
    fn tree_get(&self, path: &[u8], recursive: bool) -> Result<(NodeExtern, u64), TreeError>;

    /// As [`TreeBackend::tree_get`], if the children of a directory take at most `bytes_max`
    /// bytes.
    ///
    /// # Errors
    /// 100, 104, 209.
    fn tree_list(
        &self,
        path: &[u8],
        recursive: bool,
        bytes_max: usize,
    ) -> Result<(NodeExtern, u64), TreeError>;

    /// Changes the tree through the log. The event's `index` is the X-Etcd-Index.
    fn tree_change(
        &self,
        request: TreeRequest,
    ) -> impl Future<Output = Result<Arc<Event>, ChangeError>> + Send;

    /// Watches for changes, in the history and from now on.
    ///
    /// # Errors
    /// 401: the history does not reach back to that index.
    fn tree_watch(&self, spec: WatchSpec) -> Result<Self::Watch, TreeError>;

    /// The committed index and the term, for X-Raft-Index and X-Raft-Term.
    fn raft_mark(&self) -> (u64, u64);

    /// The wall clock, in ns since 1970.
    fn now_ns(&self) -> i64;

    /// Whether a member was removed, which is permanent.
    fn is_removed(&self, member: MemberId) -> bool;

    /// The statistics for `/v2/stats/self`.
    fn self_stats(&self) -> SelfStats;

    /// The statistics for `/v2/stats/leader`; `None` on a follower.
    fn leader_stats(&self) -> Option<LeaderStats>;

    /// The number of nodes that have expired since this member started.
    fn tree_expired(&self) -> u64;

    /// The number of waiting watches.
    fn tree_watchers(&self) -> u64;

    /// Sets the log level.
    fn set_log_level(&self, level: LogLevel);
}

/// The content of `/v2/stats/self`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelfStats {
    /// This member's name.
    pub name: String,
    /// This member's id.
    pub id: MemberId,
    /// Whether it is the leader.
    pub leads: bool,
    /// Its start time, in ns since 1970.
    pub started_ns: i64,
    /// The leader's id.
    pub leader: MemberId,
    /// When this leader was elected, in ns since 1970.
    pub led_since_ns: i64,
    /// The appends received from leaders.
    pub append_requests_received: u64,
    /// The appends sent to followers.
    pub append_requests_sent: u64,
    /// The recent rate of received appends; 0 is omitted.
    pub received_rate: Rate,
    /// The recent rate of sent appends; 0 is omitted.
    pub sent_rate: Rate,
}

/// The rate of appends in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Appends a second.
    pub appends: f64,
    /// Bytes a second.
    pub bytes: f64,
}

/// The content of `/v2/stats/leader`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaderStats {
    /// This member's id.
    pub leader: MemberId,
    /// The other members, by id.
    pub followers: Vec<FollowerStats>,
}

/// The latency of a follower's responses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FollowerStats {
    /// The follower's id.
    pub id: MemberId,
    /// The latency of the last message, in ms.
    pub latency_current: f64,
    /// The average latency, in ms.
    pub latency_average: f64,
    /// The standard deviation of the latency, in ms.
    pub latency_deviation: f64,
    /// The minimum latency, in ms.
    pub latency_min: f64,
    /// The maximum latency, in ms.
    pub latency_max: f64,
    /// The messages that could not be sent.
    pub failed: u64,
    /// The messages that were sent.
    pub succeeded: u64,
}
