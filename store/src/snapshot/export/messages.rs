//! etcd's messages on disk, as they are written: in proto2, a number is written also if it is 0.

use bytes::Bytes;

/// walpb.WrittenRecord.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WrittenRecord {
    #[prost(int64, required, tag = "1")]
    pub(super) kind: i64,
    #[prost(uint32, required, tag = "2")]
    pub(super) crc: u32,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) data: Option<Bytes>,
}

/// etcdserverpb.Metadata.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Metadata {
    #[prost(uint64, required, tag = "1")]
    pub(super) node: u64,
    #[prost(uint64, required, tag = "2")]
    pub(super) cluster: u64,
}

/// raftpb.HardState.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct HardState {
    #[prost(uint64, required, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, required, tag = "3")]
    pub(super) commit: u64,
}

/// raftpb.ConfState; its messages are of proto2, whose numbers are not packed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ConfState {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub(super) voters: Vec<u64>,
}

/// walpb.Snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotMark {
    #[prost(uint64, required, tag = "1")]
    pub(super) index: u64,
    #[prost(uint64, required, tag = "2")]
    pub(super) term: u64,
    #[prost(message, optional, tag = "3")]
    pub(super) conf_state: Option<ConfState>,
}

/// raftpb.Snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WrittenSnapshot {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) data: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<WrittenMetadata>,
}

/// raftpb.WrittenMetadata.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WrittenMetadata {
    #[prost(message, optional, tag = "1")]
    pub(super) conf_state: Option<ConfState>,
    #[prost(uint64, required, tag = "2")]
    pub(super) index: u64,
    #[prost(uint64, required, tag = "3")]
    pub(super) term: u64,
}

/// snappb.Snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WrittenEnvelope {
    #[prost(uint32, required, tag = "1")]
    pub(super) crc: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}
