//! The replicated state machine: etcd's multi-version store, and what the cluster knows of itself.
//!
//! Committed entries go in, in order; responses come out. The same entries give the same state on
//! every member: no clock, no randomness, no engine detail takes part in a decision.
//!
//! ```text
//!   apply ──> index (key -> rows)  and  active memtable (row -> pair)     in memory
//!                  rotate()  ──>  Flush { batch }  ──>  engine.write      another thread
//!                  flushed() <──  the immutable memtable is dropped
//!   view  ──> index, then active memtable, immutable memtable, engine     any thread
//! ```
//!
//! * A **row** is one version of one key, named by the revision that wrote it (`revision.rs`).
//! * The **index** says which rows a key has; it lives in memory and is rebuilt at the start.
//! * The **memtable** holds rows until the engine has them. Every flush carries the applied index,
//!   so the engine's rows and its applied index cannot differ; after a crash, the entries behind
//!   that index are applied again from the log.
//! * The **v2 tree** (`crate::tree`) lives in memory beside all this; what changed of it since the
//!   last flush becomes rows then, not before.
//! * **Compaction** is logical at once (`compacted`), physical in small steps (`compact_step`).
//! * **Quota**: no apply depends on a database's size, which differs between members. The edge asks
//!   `ReadView::has_room` before it proposes, and raises the NOSPACE alarm through the log when
//!   there is none; an apply refuses writes only because of that alarm.
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
pub mod check;
mod compact;
mod compare;
mod delete;
mod error;
mod flush;
mod force_new_cluster;
mod gate;
mod hash;
mod index;
mod kept;
mod keys;
mod leaf;
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
mod scan;
mod shared;
mod snapshot;
mod snapshot_install;
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
    AlarmResponse, CompactionResponse, DeleteRangeResponse, Member, PutResponse, TxnResponse,
};
use keelson_proto::internal::AppliedMark;

pub use apply::is_understood;
pub use error::{Error, StateError};
pub use flush::{Flush, Unflushed};
pub use gate::COMMAND_VERSION;
pub use hash::HashKv;
pub use keys::KeyRange;
pub use quota::{put_cost, tree_cost, txn_cost};
pub use revision::RowKey;
pub use snapshot::Capture;
pub use snapshot_install::{SnapshotBuilder, SnapshotError};
pub use stream::RangeStream;
pub use view::ReadView;

use crate::engine::{Change, Table};
use crate::tree::Event;
use crate::{ClusterId, Index, ProposalId};
use compact::Sweep;
use registry::Registry;
use shared::{Memtables, Shared};

/// What a new cluster begins with.
#[derive(Clone, Debug, Default)]
pub struct Genesis {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Its first members.
    pub members: Vec<Member>,
    /// Where the log stands: everything up to there is in here.
    pub mark: AppliedMark,
}

/// How much the state may grow. No limit changes what an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in the store before the NOSPACE alarm is due; `u64::MAX` for none.
    pub quota_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            quota_bytes: 2 << 30,
        }
    }
}

/// What an entry was answered with. Headers have the revision only.
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
    /// To a membership change: the members after it, by id.
    Members(Vec<Member>),
    /// To a change of the v2 tree.
    Tree(Arc<Event>),
    /// To everything that needs no answer.
    Empty,
}

/// What an entry did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Whose entry it was; nobody's if a leader wrote it for itself or if it had been applied
    /// before.
    pub id: Option<ProposalId>,
    /// The answer.
    pub response: Result<Response, Error>,
    /// The store's revision after it.
    pub revision: i64,
    /// What watchers of the v2 tree must hear, in order; that no watcher hears of a refresh is left
    /// to the caller, who keeps the history's order.
    pub events: Vec<Arc<Event>>,
}

/// The state machine; the applier thread owns it.
pub struct StateMachine {
    shared: Arc<Shared>,
    /// The memtables of `shared`, accessible without its lock.
    memtables: Memtables,
    /// Likewise.
    registry: Arc<Registry>,
    mark: AppliedMark,
    durable: Index,
    /// Rows of the small tables that changed since the last rotation.
    changed: BTreeMap<(Table, Bytes), Change>,
    /// Changes of the small tables that the current flush writes.
    changed_immutable: BTreeMap<(Table, Bytes), Change>,
    /// Rows that compaction has released since the last rotation.
    dropped: Vec<RowKey>,
    /// Whether a flush is on its way.
    flushing: bool,
    /// What it takes in memory.
    flushing_bytes: u64,
    /// Applied index and finished compaction of the last rotation.
    rotated_at: (u64, i64),
    /// The compaction under way.
    sweep: Option<Sweep>,
}

impl StateMachine {
    /// What has been applied.
    pub fn applied(&self) -> AppliedMark {
        self.mark.clone()
    }

    /// What the engine holds for certain.
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// For reading, from any thread, while entries are applied.
    pub fn view(&self) -> ReadView {
        ReadView::new(Arc::clone(&self.shared))
    }
}
