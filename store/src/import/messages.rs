//! etcd's messages on disk: records of the log, entries, snapshots of the v2 store.

use bytes::Bytes;
use keelson_proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, TxnRequest,
};

/// walpb.Record.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    #[prost(int64, tag = "1")]
    pub(super) kind: i64,
    #[prost(uint32, tag = "2")]
    pub(super) crc: u32,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) data: Option<Bytes>,
}

/// raftpb.Entry; of kind 0 if it is no change of members.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RaftEntry {
    #[prost(uint64, tag = "1")]
    pub(super) kind: u64,
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
    #[prost(uint64, tag = "3")]
    pub(super) index: u64,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) data: Option<Bytes>,
}

/// raftpb.HardState.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct StoredHardState {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "3")]
    pub(super) commit: u64,
}

/// snappb.Snapshot, and raftpb.Snapshot's metadata, which have the same numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotEnvelope {
    #[prost(uint32, tag = "1")]
    pub(super) crc: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}

/// raftpb.Snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RaftSnapshot {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) data: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<SnapshotMetadata>,
}

/// raftpb.SnapshotMetadata.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct SnapshotMetadata {
    #[prost(uint64, tag = "2")]
    pub(super) index: u64,
    #[prost(uint64, tag = "3")]
    pub(super) term: u64,
}

/// etcdserverpb.RequestHeader.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RequestHeader {
    #[prost(string, tag = "2")]
    pub(super) username: String,
}

/// etcdserverpb.InternalRaftRequest: an entry's request of either API.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct InternalRequest {
    #[prost(message, optional, tag = "100")]
    pub(super) header: Option<RequestHeader>,
    #[prost(message, optional, tag = "2")]
    pub(super) v2: Option<V2Request>,
    #[prost(message, optional, tag = "4")]
    pub(super) put: Option<PutRequest>,
    #[prost(message, optional, tag = "5")]
    pub(super) delete_range: Option<DeleteRangeRequest>,
    #[prost(message, optional, tag = "6")]
    pub(super) txn: Option<TxnRequest>,
    #[prost(message, optional, tag = "7")]
    pub(super) compaction: Option<CompactionRequest>,
    #[prost(message, optional, tag = "8")]
    pub(super) lease_grant: Option<LeaseGrantRequest>,
    #[prost(message, optional, tag = "9")]
    pub(super) lease_revoke: Option<LeaseRevokeRequest>,
    #[prost(message, optional, tag = "10")]
    pub(super) alarm: Option<AlarmRequest>,
    #[prost(message, optional, tag = "1000")]
    pub(super) auth_enable: Option<Empty>,
    #[prost(message, optional, tag = "1011")]
    pub(super) auth_disable: Option<AuthDisableRequest>,
    #[prost(message, optional, tag = "1100")]
    pub(super) user_add: Option<AuthUserAddRequest>,
    #[prost(message, optional, tag = "1101")]
    pub(super) user_delete: Option<AuthUserDeleteRequest>,
    #[prost(message, optional, tag = "1103")]
    pub(super) user_change_password: Option<AuthUserChangePasswordRequest>,
    #[prost(message, optional, tag = "1104")]
    pub(super) user_grant_role: Option<AuthUserGrantRoleRequest>,
    #[prost(message, optional, tag = "1105")]
    pub(super) user_revoke_role: Option<AuthUserRevokeRoleRequest>,
    #[prost(message, optional, tag = "1200")]
    pub(super) role_add: Option<AuthRoleAddRequest>,
    #[prost(message, optional, tag = "1201")]
    pub(super) role_delete: Option<AuthRoleDeleteRequest>,
    #[prost(message, optional, tag = "1203")]
    pub(super) role_grant_permission: Option<AuthRoleGrantPermissionRequest>,
    #[prost(message, optional, tag = "1204")]
    pub(super) role_revoke_permission: Option<AuthRoleRevokePermissionRequest>,
}

/// A message whose fields do not matter.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Empty {}

/// etcdserverpb.Request: a request of the v2 API.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct V2Request {
    #[prost(string, tag = "2")]
    pub(super) method: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) path: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) value: Bytes,
    #[prost(bool, tag = "5")]
    pub(super) dir: bool,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) prev_value: Bytes,
    #[prost(uint64, tag = "7")]
    pub(super) prev_index: u64,
    #[prost(bool, optional, tag = "8")]
    pub(super) prev_exist: Option<bool>,
    #[prost(int64, tag = "9")]
    pub(super) expiration: i64,
    #[prost(bool, tag = "12")]
    pub(super) recursive: bool,
    #[prost(int64, tag = "15")]
    pub(super) time: i64,
    #[prost(bool, optional, tag = "17")]
    pub(super) refresh: Option<bool>,
}
