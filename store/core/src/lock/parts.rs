//! Parts of transactions.

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::response_op::Response;
use keelson_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest,
};
use keelson_proto::mvccpb::KeyValue;

/// A transaction with one comparison.
pub fn when(compare: Compare, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare: vec![compare],
        success,
        failure,
    }
}

/// Whether the key was created at a revision; 0 if it does not exist.
pub fn created_at(key: Bytes, revision: i64) -> Compare {
    let created = TargetUnion::CreateRevision(revision);
    equal(key, CompareTarget::Create, created)
}

/// Whether each key of a range was created at a revision or later.
pub(super) fn created_from(key: Bytes, range_end: Bytes, revision: i64) -> Compare {
    Compare {
        range_end,
        result: CompareResult::Greater.into(),
        ..created_at(key, revision - 1)
    }
}

/// Whether the last put of the key was at a revision.
pub(super) fn modified_at(key: Bytes, revision: i64) -> Compare {
    equal(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

fn equal(key: Bytes, target: CompareTarget, number: TargetUnion) -> Compare {
    Compare {
        key,
        result: CompareResult::Equal.into(),
        target: target.into(),
        target_union: Some(number),
        ..Compare::default()
    }
}

/// The put of a pair with a lease.
pub fn put(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key,
        value,
        lease,
        ..PutRequest::default()
    }))
}

/// The put of a pair that exists, as it is: only its revision and its version change.
pub(super) fn put_again(key: Bytes) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key,
        ignore_value: true,
        ignore_lease: true,
        ..PutRequest::default()
    }))
}

/// A transaction within another one.
pub(super) fn txn(request: TxnRequest) -> RequestOp {
    op(Request::RequestTxn(request))
}

/// A read.
pub(super) fn range(request: RangeRequest) -> RequestOp {
    op(Request::RequestRange(request))
}

/// The deletion of a key.
pub fn delete(key: Bytes) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key,
        ..DeleteRangeRequest::default()
    }))
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// The first pair that an operation has read; `None` if it has read none.
pub(super) fn read(answer: ResponseOp) -> Option<KeyValue> {
    match answer.response? {
        Response::ResponseRange(range) => range.kvs.into_iter().next(),
        _ => None,
    }
}
