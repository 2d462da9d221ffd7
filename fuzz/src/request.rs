//! Any bytes as a client's request: what decodes must survive a round trip, and the checks that
//! come before everything else must cope with it.

use keelson_core::state::check;
use keelson_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use prost::Message;

const TXN_OPS_MAX: usize = 128;

/// The target.
pub fn run(bytes: &[u8]) {
    if let Some(range) = round_trip::<RangeRequest>(bytes) {
        let _ = check::range(&range);
        let _ = check::range_stream(&range);
    }
    if let Some(put) = round_trip::<PutRequest>(bytes) {
        assert_eq!(check::put(&put).is_err(), refuses(&put));
    }
    if let Some(delete) = round_trip::<DeleteRangeRequest>(bytes) {
        assert_eq!(check::delete_range(&delete).is_err(), delete.key.is_empty());
    }
    if let Some(txn) = round_trip::<TxnRequest>(bytes) {
        let _ = check::txn(&txn, TXN_OPS_MAX);
        let _ = check::is_txn_readonly(&txn);
    }
}

fn refuses(put: &PutRequest) -> bool {
    put.key.is_empty()
        || put.ignore_value && !put.value.is_empty()
        || put.ignore_lease && put.lease != 0
}

fn round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message), "a message changed on its way");
    Some(message)
}
