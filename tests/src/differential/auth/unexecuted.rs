//! Whether etcd refuses one part of a transaction, found without executing it: etcd checks the
//! rights to both branches, and executes one.

use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// The transactions that have no effect and need the rights that `txn` needs, one right each.
pub(super) fn unexecuted(txn: &TxnRequest) -> Vec<TxnRequest> {
    let parts = parts(txn).into_iter();
    parts
        .map(|part| TxnRequest {
            failure: vec![RequestOp {
                request: Some(part),
            }],
            ..TxnRequest::default()
        })
        .collect()
}

/// Whether etcd 3.4 and 3.5.1 leave a part unchecked: a nested transaction, or the previous pair of
/// a put.
pub(super) fn has_unchecked(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(Request::RequestTxn(_)) => true,
            Some(Request::RequestPut(put)) => put.prev_kv,
            _ => false,
        })
}

fn parts(txn: &TxnRequest) -> Vec<Request> {
    let compares = txn.compare.iter();
    let mut parts: Vec<Request> = compares
        .map(|compare| read(&compare.key, &compare.range_end))
        .collect();
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => parts.push(read(&range.key, &range.range_end)),
            Some(Request::RequestPut(put)) => {
                parts.push(Request::RequestPut(PutRequest {
                    key: put.key.clone(),
                    ..PutRequest::default()
                }));
                if put.prev_kv {
                    parts.push(read(&put.key, b""));
                }
            }
            Some(Request::RequestDeleteRange(delete)) => {
                parts.push(Request::RequestDeleteRange(DeleteRangeRequest {
                    prev_kv: false,
                    ..delete.clone()
                }));
                if delete.prev_kv {
                    parts.push(read(&delete.key, &delete.range_end));
                }
            }
            Some(Request::RequestTxn(nested)) => parts.extend(self::parts(nested)),
            None => {}
        }
    }
    parts
}

fn read(key: &[u8], range_end: &[u8]) -> Request {
    Request::RequestRange(RangeRequest {
        key: key.to_vec().into(),
        range_end: range_end.to_vec().into(),
        count_only: true,
        ..RangeRequest::default()
    })
}
