//! Reads of the state, from any thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keelson_proto::etcdserverpb::{
    AlarmMember, AlarmType, Member, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use super::counts::StateCounts;
use super::error::Error;
use super::hash::{self, HashKv};
use super::keys::KeyRange;
use super::shared::{Memtables, ReadError, Reads, Shared, missing};
use super::stream::RangeStream;
use super::txn::Plan;
use super::{check, meta, range, registry};
use crate::engine::{Engine, EngineSize};
use crate::tree::HISTORY_BYTES_MAX;
use crate::{ClusterId, Index, Roster};

/// A view of the state as of each call; cheap to clone.
#[derive(Clone)]
pub struct ReadView {
    pub(super) shared: Arc<Shared>,
}

impl ReadView {
    pub(super) fn new(shared: Arc<Shared>) -> ReadView {
        ReadView { shared }
    }

    /// Answers a range request from local state.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRev`] and [`Error::Engine`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.read(request.revision, |reads| reads.range(request))
    }

    /// Answers a range request in chunks of about `chunk_bytes`, all at one revision. The last
    /// chunk has the header, the count and `more`.
    ///
    /// # Errors
    /// Those of [`check::range_stream`] and [`ReadView::range`].
    pub fn range_stream(
        &self,
        request: &RangeRequest,
        chunk_bytes: usize,
    ) -> Result<RangeStream, Error> {
        check::range_stream(request)?;
        RangeStream::new(self.clone(), request.clone(), chunk_bytes)
    }

    /// Answers a read-only transaction (`check::is_txn_readonly`) at one revision.
    ///
    /// # Errors
    /// Those of [`ReadView::range`], for any of its ranges and comparisons.
    pub fn txn_read(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        self.read(lowest_revision(request), |reads| {
            let plan = Plan::new(reads, request.clone())?;
            plan.check(reads)?;
            let mut response = plan.read(reads)?;
            response.header = range::header(reads.current);
            Ok(response)
        })
    }

    /// Hashes the pairs up to a revision; 0 is the current one.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRev`] and [`Error::Engine`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        hash::hash_kv(&self.shared, revision)
    }

    /// The store's revision.
    pub fn revision(&self) -> i64 {
        self.shared.revision()
    }

    /// Revisions below this one cannot be read; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.shared.compacted()
    }

    /// The compaction whose rows have all been deleted, for clients that wait for `physical`.
    pub fn compaction_finished(&self) -> i64 {
        self.shared.swept.load(Ordering::SeqCst)
    }

    /// The applied index.
    pub fn applied_index(&self) -> Index {
        Index(self.shared.applied.load(Ordering::SeqCst))
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.cluster
    }

    /// The members, by id.
    pub fn members(&self) -> Vec<Member> {
        let registry = self.shared.registry.read();
        registry.roster.members.values().cloned().collect()
    }

    /// The member with that id.
    pub fn member(&self, id: u64) -> Option<Member> {
        self.shared.registry.read().roster.members.get(&id).cloned()
    }

    /// Whether the id belonged to a removed member.
    pub fn removed(&self, id: u64) -> bool {
        self.shared.registry.read().roster.removed.contains(&id)
    }

    /// The members, and the ids of removed ones.
    pub fn roster(&self) -> Roster {
        self.shared.registry.read().roster.clone()
    }

    /// The active alarms.
    pub fn alarms(&self) -> Vec<AlarmMember> {
        self.shared.registry.read().alarms(AlarmType::None as i32)
    }

    /// The cluster version, once decided.
    pub fn cluster_version(&self) -> Option<String> {
        self.shared.registry.read().version.clone()
    }

    /// The cluster version that the engine holds durably: everything up to the entry that set it is
    /// in the engine. `None` before the first one.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn storage_version(&self) -> Result<Option<String>, Error> {
        Ok(registry::text(&*self.shared.engine, meta::CLUSTER_VERSION)?)
    }

    /// The cluster version to which a downgrade is in progress.
    pub fn downgrade(&self) -> Option<String> {
        self.shared.registry.read().downgrade.clone()
    }

    /// The engine, for maintenance. Rows are written by the state machine alone.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.shared.engine)
    }

    /// The size of the engine.
    pub fn size(&self) -> EngineSize {
        self.shared.engine.size()
    }

    /// The number of keys that exist now.
    pub fn key_count(&self) -> usize {
        let range = KeyRange::new(b"\0", b"\0");
        self.shared.index.count(range, self.shared.revision())
    }

    /// The operations since the state was opened.
    pub fn counts(&self) -> StateCounts {
        self.shared.counters.read()
    }

    /// Whether a request of that cost (`put_cost`, `txn_cost`) fits into the quota. If not, the
    /// edge raises the NOSPACE alarm and refuses it. A cost of 0 always fits.
    pub fn has_room(&self, cost: u64) -> bool {
        cost == 0 || self.held_bytes().saturating_add(cost) < self.shared.limits.quota_bytes
    }

    /// Whether the store holds so much less than the quota that the NOSPACE alarm may end: a tenth
    /// of the quota less, so that the alarm does not come and go with each request.
    pub fn has_room_again(&self) -> bool {
        let quota = self.shared.limits.quota_bytes;
        self.held_bytes() < quota - quota / 10
    }

    /// Whether a change of the v2 tree of that cost still fits. The limit is one and a half times
    /// the quota plus the maximum of the tree's history, since the NOSPACE alarm does not stop the
    /// v2 API. The engine has room for more: twice the quota, and 4 GiB at least.
    pub fn has_tree_room(&self, cost: u64) -> bool {
        let quota = self.shared.limits.quota_bytes;
        let most = quota.saturating_add(quota / 2);
        let most = most.saturating_add(HISTORY_BYTES_MAX);
        cost == 0 || self.held_bytes().saturating_add(cost) < most
    }

    /// Bytes that count in the quota: what the engine holds, and what is to be flushed.
    pub fn held_bytes(&self) -> u64 {
        let memtables = self.shared.memtables();
        let immutable = memtables.immutable.map_or(0, |immutable| immutable.bytes());
        let fresh = memtables.active.bytes() + immutable;
        let held = self.shared.engine_bytes.load(Ordering::Relaxed);
        held.saturating_add(fresh)
    }

    /// Reads at one revision, and repeats the read if a compaction has passed it. `requested` is
    /// the oldest revision that the request names, 0 or less for none.
    pub(super) fn read<T>(
        &self,
        requested: i64,
        read: impl Fn(&Reads<'_>) -> Result<T, ReadError>,
    ) -> Result<T, Error> {
        self.require_unfenced()?;
        loop {
            // In this order: the revision is never below the compaction, and its rows are already
            // in the memtables or in the engine.
            let compacted = self.shared.compacted();
            let current = self.shared.revision();
            let memtables: Memtables = self.shared.memtables();
            let reads = Reads {
                shared: &self.shared,
                memtables: &memtables,
                current,
                compacted,
            };
            let result = read(&reads);
            let oldest = if requested <= 0 { current } else { requested };
            // Only a compaction that happened during the read counts. A transaction may name a
            // revision that was compacted long ago in the branch that it does not take: repeating
            // that read would never end.
            let compaction = self.shared.compacted();
            let overtaken = compacted < compaction && oldest.min(current) < compaction;
            match result {
                Err(ReadError::Refused(error)) => return Err(error),
                Err(ReadError::Engine(error)) => return Err(error.into()),
                // Rows may have been missing; the next attempt reads the remaining ones, or is
                // refused.
                _ if overtaken => {}
                // Checked again: this member may have been found to differ since.
                Ok(answer) => return self.require_unfenced().map(|()| answer),
                Err(ReadError::Missing(row)) => return Err(missing(row).into()),
            }
        }
    }
}

/// The oldest revision in a transaction's ranges.
fn lowest_revision(request: &TxnRequest) -> i64 {
    use keelson_proto::etcdserverpb::request_op::Request;
    let ops = request.success.iter().chain(&request.failure);
    let named = ops.filter_map(|op| match &op.request {
        Some(Request::RequestRange(range)) if range.revision > 0 => Some(range.revision),
        Some(Request::RequestTxn(nested)) => Some(lowest_revision(nested)).filter(|r| *r > 0),
        _ => None,
    });
    named.min().unwrap_or(0)
}
