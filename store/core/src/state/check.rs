//! What can be told to be wrong with a request without looking at the state.
//!
//! The edge and embedders call these before they propose, so that both give the same errors.

use std::collections::BTreeSet;

use bytes::Bytes;
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::error::Error;
use super::range::filtered;

/// Checks a range request.
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
    SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
    Ok(())
}

/// Checks a range request whose answer is to be streamed: only in key order, without filters.
pub fn range_stream(request: &RangeRequest) -> Result<(), Error> {
    range(request)?;
    let by_key = request.sort_target() == SortTarget::Key;
    match request.sort_order() {
        SortOrder::None | SortOrder::Ascend if by_key => {}
        // A target without an order sorts too.
        _ => return Err(Error::StreamSorted),
    }
    if filtered(request) {
        return Err(Error::StreamFiltered);
    }
    Ok(())
}

/// Checks a put.
pub fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    match request.key.is_empty() {
        true => Err(Error::EmptyKey),
        false => Ok(()),
    }
}

/// Checks a transaction: its size, each of its operations, and that it writes no key twice.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    operations(request, max_ops)?;
    Writes::collect(&request.success)?;
    Writes::collect(&request.failure)?;
    Ok(())
}

/// Whether the transaction can be answered as a read. One with a nested transaction cannot, even if
/// that only reads: etcd sends it through the log.
pub fn is_txn_readonly(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a transaction that only reads may be answered from local state: every range says so.
pub fn is_txn_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(r)) if r.serializable))
}

/// What is left of `max_ops` inside goes to nested transactions, so depth is bounded too.
fn operations(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    let branches = request.success.len().max(request.failure.len());
    let size = branches.max(request.compare.len());
    let left = max_ops.checked_sub(size).ok_or(Error::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    let mut ops = request.success.iter().chain(&request.failure);
    ops.try_for_each(|op| match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => operations(request, left),
        None => Err(Error::KeyNotFound),
    })
}

/// What one branch writes, nested transactions included.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    /// Key and range end of each delete.
    deletes: Vec<(Bytes, Bytes)>,
}

impl Writes {
    /// etcd's `checkIntervals`. The order matters: this level's deletes first, then the nested
    /// transactions one after the other, then this level's puts. Deletes may overlap.
    fn collect(ops: &[RequestOp]) -> Result<Writes, Error> {
        let mut writes = Writes::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                let interval = (delete.key.clone(), delete.range_end.clone());
                writes.deletes.push(interval);
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                writes.nest(nested)?;
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                writes.put(&put.key)?;
            }
        }
        Ok(writes)
    }

    fn nest(&mut self, nested: &TxnRequest) -> Result<(), Error> {
        let then = Writes::collect(&nested.success)?;
        let otherwise = Writes::collect(&nested.failure)?;
        for key in &then.puts {
            self.put(key)?;
        }
        for key in &otherwise.puts {
            // Only one of the two branches happens, so both may write the key.
            if then.puts.contains(key) {
                continue;
            }
            self.put(key)?;
        }
        self.deletes.extend(then.deletes);
        self.deletes.extend(otherwise.deletes);
        Ok(())
    }

    fn put(&mut self, key: &Bytes) -> Result<(), Error> {
        let deleted = self.deletes.iter().any(|delete| covers(delete, key));
        match deleted || !self.puts.insert(key.clone()) {
            true => Err(Error::DuplicateKey),
            false => Ok(()),
        }
    }
}

/// Like etcd, takes a range end of one zero byte literally here, not as "every greater key".
fn covers((from, to): &(Bytes, Bytes), key: &Bytes) -> bool {
    match to.is_empty() {
        true => from == key,
        false => from <= key && key < to,
    }
}
