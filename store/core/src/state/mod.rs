//! The replicated state machine: etcd's multi-version store, cluster metadata, and the v2 tree.
//!
//! Committed entries go in, in order; responses come out. The same entries give the same state on
//! every member: no clock, no randomness and no detail of the engine takes part in a decision.
//!
//! ```text
//!   apply ──> index (key -> rows)  and  active memtable (row -> pair)     in memory
//!                  rotate()  ──>  Flush { batch }  ──>  engine.write      another thread
//!                  flushed() <──  the immutable memtable is dropped
//!   view  ──> index, then active memtable, immutable memtable, engine     any thread
//! ```
//!
//! * A **row** is one version of one key, named by the revision that wrote it (`revision.rs`).
//! * The **index** maps a key to its rows; it is in memory and rebuilt at the start.
//! * The **memtable** holds rows until the engine has them. Every flush carries the applied index,
//!   so the engine's rows and its applied index cannot differ. After a crash, the entries behind
//!   that index are applied again from the log.
//! * The **v2 tree** (`crate::tree`) is in memory. Its changes become rows at the next rotation.
//! * **Compaction** is logical at once (`compacted`), physical in small steps (`compact_step`).
//! * **Quota**: no apply depends on a database's size, which differs between members. The edge
//!   checks `ReadView::has_room` before it proposes, and raises the NOSPACE alarm through the log
//!   when there is none; an apply refuses writes only because of that alarm.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use keelson_core::engine::{Engine, MemoryEngine};
//! use keelson_core::state::{Genesis, Limits, StateMachine};
//! use keelson_core::{Committed, Entry, EntryKind, Index, ProposalId, Term, proposal};
//! use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
//! use keelson_proto::internal::{Command, command::Op};
//! use prost::Message;
//!
//! let engine = Arc::new(MemoryEngine::new());
//! let mut state = StateMachine::create(engine.clone(), Genesis::default(), Limits::default())?;
//!
//! let put = PutRequest { key: Bytes::from("k"), value: Bytes::from("v"), ..Default::default() };
//! let command = Command { op: Some(Op::Put(put)) }.encode_to_vec();
//! let entry = Entry {
//!     index: Index(1),
//!     term: Term(1),
//!     kind: EntryKind::Command,
//!     data: proposal::encode(ProposalId::default(), &command),
//!     context: Bytes::new(),
//! };
//! state.apply(&Committed { entry, conf: None }, true)?.response?;
//!
//! let get = RangeRequest { key: Bytes::from("k"), ..Default::default() };
//! assert_eq!(state.view().range(&get)?.kvs[0].mod_revision, 2);
//!
//! if let Some(flush) = state.rotate() {
//!     engine.write(&flush.batch)?; // another thread, usually
//!     state.flushed(flush);
//! }
//! assert_eq!(state.durable(), Index(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alarm;
mod apply;
pub mod auth;
pub mod check;
mod compact;
mod compare;
mod counted_leaf;
mod counts;
mod delete;
mod downgrade;
mod error;
mod events;
mod flush;
mod force_new_cluster;
mod gate;
mod hash;
mod hash_check;
mod import;
mod index;
mod kept;
mod keys;
mod leaf;
mod lease_apply;
mod leases;
mod members;
mod memtable;
mod meta;
mod open;
mod put;
mod quota;
mod range;
mod registry;
mod revision;
mod rows;
mod running;
mod scan;
mod shared;
mod snapshot;
mod snapshot_install;
mod standby;
mod stream;
mod tree;
mod txn;
mod versions;
mod view;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, Member, PutResponse, ResponseHeader, TxnResponse,
};
use keelson_proto::internal::AppliedMark;

pub use apply::is_understood;
pub use counts::StateCounts;
pub use downgrade::version_below;
pub use error::{Error, StateError};
pub(crate) use events::{EventBudget, EventSpan};
pub use flush::{Flush, Unflushed};
pub use gate::{COMMAND_VERSION, HASH_COMMANDS, PREVIOUS_COMMAND_VERSION};
pub use hash::HashKv;
pub use import::{Import, ImportEnd};
pub use keys::KeyRange;
pub use leases::{LEASE_TTL_MAX, Lease, LeaseChange};
pub use quota::{LEASE_COST, put_cost, tree_cost, txn_cost};
pub use revision::RowKey;
pub use running::{Divergence, HASH_SCHEME, HashOutcome, HashReport};
pub use snapshot::Capture;
pub use snapshot_install::{SnapshotBuilder, SnapshotError};
pub use stream::RangeStream;
pub use view::ReadView;

use crate::engine::{Change, Table};
use crate::tree::Event;
use crate::{ClusterId, Index, ProposalId};
use compact::Sweep;
use registry::Registry;
use running::RunningHash;
use shared::{Memtables, Shared};

/// The initial state of a new cluster.
#[derive(Clone, Debug, Default)]
pub struct Genesis {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Its first members.
    pub members: Vec<Member>,
    /// The position in the log up to which this state includes all entries.
    pub mark: AppliedMark,
}

/// Limits on the size of the state. No limit changes how an entry is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of the store in bytes at which the NOSPACE alarm is raised; `u64::MAX` for none.
    pub quota_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            quota_bytes: 2 << 30,
        }
    }
}

/// The response to an entry. Headers have the revision only.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compaction(CompactionResponse),
    /// To an alarm request.
    Alarm(AlarmResponse),
    /// To a grant.
    LeaseGrant(LeaseGrantResponse),
    /// To a revocation.
    LeaseRevoke(LeaseRevokeResponse),
    /// To a change of users, roles and permissions: etcd's responses have nothing but a header.
    Auth(ResponseHeader),
    /// To a membership change: the members after it, by id.
    Members(Vec<Member>),
    /// To a change of the v2 tree.
    Tree(Arc<Event>),
    /// To every other command.
    Empty,
}

/// The outcome of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The id of its request; `None` if a leader appended it by itself, or if it had been applied
    /// before.
    pub id: Option<ProposalId>,
    /// The response.
    pub response: Result<Response, Error>,
    /// The store's revision after the entry.
    pub revision: i64,
    /// Events for the watchers of the v2 tree, in order. The caller filters out refreshes, since it
    /// keeps the order of the history.
    pub events: Vec<Arc<Event>>,
    /// What happened to leases, in order, for the leader's lessor.
    pub leases: Vec<LeaseChange>,
    /// What it meant, if it is an entry of the comparison of running hashes.
    pub hash: Option<HashOutcome>,
}

/// The state machine; the applier owns it.
pub struct StateMachine {
    shared: Arc<Shared>,
    /// The memtables of `shared`, accessible without its lock.
    memtables: Memtables,
    /// The registry of `shared`, likewise.
    registry: Arc<Registry>,
    /// Without the hash.
    mark: AppliedMark,
    hash: RunningHash,
    /// The newest kind of command that it applies.
    command_version: u32,
    durable: Index,
    /// Rows of the small tables that changed since the last rotation.
    changed: BTreeMap<(Table, Bytes), Change>,
    /// Changes of the small tables that the current flush writes.
    changed_immutable: BTreeMap<(Table, Bytes), Change>,
    /// Rows that compaction has released since the last rotation.
    dropped: Vec<RowKey>,
    /// Whether a flush is in progress.
    flushing: bool,
    /// The memory of the flush in progress, in bytes.
    flushing_bytes: u64,
    /// Applied index and finished compaction of the last rotation.
    rotated_at: (u64, i64),
    /// The compaction in progress.
    sweep: Option<Sweep>,
}

impl StateMachine {
    /// The applied index, with term and membership.
    pub fn applied(&self) -> AppliedMark {
        AppliedMark {
            hash: self.hash.stored(),
            ..self.mark.clone()
        }
    }

    /// Changes a row of a small table, with the next flush.
    fn change(&mut self, table: Table, key: Bytes, change: Change) {
        self.hash.change(table, &key, &change);
        self.changed.insert((table, key), change);
    }

    /// The applied index up to which the engine is durable.
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// Applies no command that is newer than that: as a release with this number, for tests of
    /// upgrades.
    pub fn pretend(&mut self, command_version: u32) {
        self.command_version = command_version.min(COMMAND_VERSION);
    }

    /// A view for reads from any thread, while entries are applied.
    pub fn view(&self) -> ReadView {
        ReadView::new(Arc::clone(&self.shared))
    }
}
