//! The cost of a request in the quota, as etcd estimates it.

use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::tree_request::Op as TreeOp;

/// The cost of a pair beyond its key and value, in bytes.
const PAIR_OVERHEAD: u64 = 256;

/// The cost of a lease, in bytes.
pub const LEASE_COST: u64 = 64;

/// The cost of a put, in bytes.
pub fn put_cost(put: &PutRequest) -> u64 {
    PAIR_OVERHEAD + (put.key.len() + put.value.len()) as u64
}

/// The cost of a transaction, in bytes: that of its more expensive branch.
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost).sum::<u64>();
    branch(&txn.success).max(branch(&txn.failure))
}

fn op_cost(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        _ => 0,
    }
}

/// The cost of a change of the v2 tree, in bytes: a deletion and a refresh cost nothing.
pub fn tree_cost(request: &TreeRequest) -> u64 {
    match request.op() {
        TreeOp::Delete | TreeOp::CompareAndDelete => 0,
        _ if request.refresh => 0,
        _ => PAIR_OVERHEAD + (request.path.len() + request.value.len()) as u64,
    }
}

/// The cost of a command, in bytes; 0 for one that the NOSPACE alarm permits. The v2 tree is not in
/// the quota, as in etcd: an alarm of the v3 API does not stop it.
pub(super) fn cost(op: &Op) -> u64 {
    match op {
        Op::Put(put) => put_cost(put),
        Op::Txn(txn) => txn_cost(txn),
        Op::LeaseGrant(_) => LEASE_COST,
        _ => 0,
    }
}
