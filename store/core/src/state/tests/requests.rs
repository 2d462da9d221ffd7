//! Short constructors of requests.

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{LeaseCheckpoint, LeaseExpire, LeaseName, LeaseRemaining};

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

pub(super) fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    }
}

pub(super) fn get(key: &str) -> RangeRequest {
    range(key, "")
}

pub(super) fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..RangeRequest::default()
    }
}

/// A range over every key.
pub(super) fn all() -> RangeRequest {
    range("\0", "\0")
}

pub(super) fn at(revision: i64, request: RangeRequest) -> RangeRequest {
    RangeRequest {
        revision,
        ..request
    }
}

pub(super) fn compaction(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: false,
    }
}

pub(super) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub(super) fn op_put(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(put(key, value)))
}

pub(super) fn op_get(request: RangeRequest) -> RequestOp {
    op(Request::RequestRange(request))
}

pub(super) fn op_delete(key: &str, range_end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(delete(key, range_end)))
}

pub(super) fn op_txn(txn: TxnRequest) -> RequestOp {
    op(Request::RequestTxn(txn))
}

pub(super) fn txn(
    compare: Vec<Compare>,
    success: Vec<RequestOp>,
    failure: Vec<RequestOp>,
) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

pub(super) fn when(
    key: &str,
    target: CompareTarget,
    result: CompareResult,
    operand: TargetUnion,
) -> Compare {
    Compare {
        result: result as i32,
        target: target as i32,
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(operand),
    }
}

pub(super) fn grant(id: i64, ttl: i64) -> Op {
    Op::LeaseGrant(LeaseGrantRequest { id, ttl })
}

pub(super) fn revoke(id: i64) -> Op {
    Op::LeaseRevoke(LeaseRevokeRequest { id })
}

pub(super) fn expire(term: u64, leases: Vec<LeaseName>) -> Op {
    Op::LeaseExpire(LeaseExpire { term, leases })
}

pub(super) fn checkpoint(term: u64, lease: LeaseName, remaining_ttl: i64) -> Op {
    let lease = LeaseRemaining {
        lease: Some(lease),
        remaining_ttl,
    };
    Op::LeaseCheckpoint(LeaseCheckpoint {
        term,
        leases: vec![lease],
    })
}
