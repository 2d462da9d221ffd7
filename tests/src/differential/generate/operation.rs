//! What is generated.

use keelson_proto::etcdserverpb::*;

/// One operation.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A read.
    Range(RangeRequest),
    /// A write.
    Put(PutRequest),
    /// A deletion.
    Delete(DeleteRangeRequest),
    /// A transaction.
    Txn(TxnRequest),
    /// A compaction.
    Compact(CompactionRequest),
    /// The hash of the whole store.
    Hash(HashKvRequest),
    /// A lease.
    Grant(LeaseGrantRequest),
    /// The end of a lease and its keys.
    Revoke(LeaseRevokeRequest),
    /// A lease's times and keys.
    TimeToLive(LeaseTimeToLiveRequest),
    /// All leases.
    Leases,
    /// The renewal of a lease.
    KeepAlive(LeaseKeepAliveRequest),
    /// A watcher.
    Watch(WatchCreateRequest),
    /// The end of the watcher with this id.
    CancelWatch(i64),
    /// A request for the progress of all watchers.
    Progress,
}
