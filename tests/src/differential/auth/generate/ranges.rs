//! What is changed of generated requests, so that etcd and Keelson remain comparable.

use bytes::Bytes;
use keelson_proto::etcdserverpb::TxnRequest;
use keelson_proto::etcdserverpb::request_op::Request;

/// Makes a range whose end is not behind its first key one of that key. etcd's check of such a
/// range depends on the shape of its tree of permissions.
pub(super) fn set_upright(key: &Bytes, end: &mut Bytes) {
    if **end != [0] && **end <= **key {
        end.clear();
    }
}

/// The same with all ranges of a transaction.
pub(super) fn set_all_upright(txn: &mut TxnRequest) {
    for compare in &mut txn.compare {
        set_upright(&compare.key, &mut compare.range_end);
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => set_upright(&range.key, &mut range.range_end),
            Some(Request::RequestDeleteRange(delete)) => {
                set_upright(&delete.key, &mut delete.range_end);
            }
            Some(Request::RequestTxn(nested)) => set_all_upright(nested),
            Some(Request::RequestPut(_)) | None => {}
        }
    }
}

/// Removes the leases of its puts.
pub(super) fn detach(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => put.lease = 0,
            Some(Request::RequestTxn(nested)) => detach(nested),
            _ => {}
        }
    }
}
