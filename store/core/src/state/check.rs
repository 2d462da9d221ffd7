//! Validation of requests that needs no state.
//!
//! The edge and embedders call these before they propose, so that both return the same errors.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::error::Error;
use super::range::filtered;

/// The maximum depth of nested transactions, the outermost included. The log encodes a user's
/// transaction three messages deeper than its client, and prost decodes 100 levels: gRPC's decoder
/// accepts 50 transactions, the log's 48. etcd has no limit but `--max-txn-ops`, whose error is
/// used here.
pub const TXN_DEPTH_MAX: usize = 45;

/// Checks a range request.
///
/// # Errors
/// [`Error::EmptyKey`] and [`Error::InvalidSortOption`].
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
    SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
    Ok(())
}

/// Checks a streamed range request: only key order and no filters are allowed.
///
/// # Errors
/// Those of [`range`], [`Error::StreamSorted`] and [`Error::StreamFiltered`].
pub fn range_stream(request: &RangeRequest) -> Result<(), Error> {
    range(request)?;
    // Without an order the answer is in key order, regardless of the target.
    let by_key = request.sort_target() == SortTarget::Key;
    let sorted = match request.sort_order() {
        SortOrder::None => false,
        SortOrder::Ascend => !by_key,
        SortOrder::Descend => true,
    };
    if sorted {
        return Err(Error::StreamSorted);
    }
    if filtered(request) {
        return Err(Error::StreamFiltered);
    }
    Ok(())
}

/// Checks a put.
///
/// # Errors
/// [`Error::EmptyKey`], [`Error::ValueProvided`] and [`Error::LeaseProvided`].
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
///
/// # Errors
/// [`Error::EmptyKey`].
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    match request.key.is_empty() {
        true => Err(Error::EmptyKey),
        false => Ok(()),
    }
}

/// Checks a transaction: its size, each of its operations, and that no key is written twice.
///
/// # Errors
/// [`Error::TooManyOps`], [`Error::DuplicateKey`], [`Error::KeyNotFound`] for an operation without
/// a request, and those of its operations.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    operations(request, max_ops, TXN_DEPTH_MAX)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// Whether the transaction can be answered as a read. One with a nested transaction cannot, even if
/// that only reads: etcd proposes it.
pub fn is_txn_readonly(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered from local state: every range is serializable.
pub fn is_txn_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(r)) if r.serializable))
}

/// Checks the operations. `max_ops` and `depth` are what remains for nested transactions.
fn operations(request: &TxnRequest, max_ops: usize, depth: usize) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::TooManyOps)?;
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
        Some(Request::RequestTxn(request)) => operations(request, left, depth),
        None => Err(Error::KeyNotFound),
    })
}

/// The keys that one branch writes, nested transactions included. etcd's `checkIntervals`.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

impl<'a> Writes<'a> {
    fn of(ops: &'a [RequestOp]) -> Result<Writes<'a>, Error> {
        let mut writes = Writes::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                writes.deletes.insert_range(&delete.key, &delete.range_end);
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                writes.merge(Writes::of(&nested.success)?, Writes::of(&nested.failure)?)?;
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                writes.insert(&put.key)?;
            }
        }
        Ok(writes)
    }

    /// Merges the two branches of a nested transaction. Only one of them runs: both may write a
    /// key.
    fn merge(&mut self, then: Writes<'a>, other: Writes<'a>) -> Result<(), Error> {
        let both: Vec<&[u8]> = then.puts.union(&other.puts).copied().collect();
        for key in both {
            self.insert(key)?;
        }
        self.deletes.union(then.deletes);
        self.deletes.union(other.deletes);
        Ok(())
    }

    fn insert(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// A set of disjoint half-open intervals: begin -> end.
#[derive(Default)]
struct Intervals<'a>(BTreeMap<&'a [u8], Cow<'a, [u8]>>);

impl<'a> Intervals<'a> {
    /// Inserts a range. An empty end means one key. An end of `\0`, "to the last key", is read as
    /// in etcd: as the smallest key, so that such a delete conflicts with no put.
    fn insert_range(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.insert(key, Cow::Owned([key, b"\0"].concat()));
        } else if key < range_end {
            self.insert(key, Cow::Borrowed(range_end));
        }
    }

    fn insert(&mut self, mut begin: &'a [u8], mut end: Cow<'a, [u8]>) {
        // Merge every interval that begins within the new one, and the one in which it begins.
        while let Some((other, other_end)) = self.last_until(&end) {
            if other_end.as_ref() < begin {
                break;
            }
            let other_end = self.0.remove(other).expect("it was just found");
            begin = begin.min(other);
            end = end.max(other_end);
        }
        self.0.insert(begin, end);
    }

    fn union(&mut self, other: Intervals<'a>) {
        for (begin, end) in other.0 {
            self.insert(begin, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.last_until(key)
            .is_some_and(|(_, end)| key < end.as_ref())
    }

    /// The last interval that begins at or before `key`.
    fn last_until(&self, key: &[u8]) -> Option<(&'a [u8], &Cow<'a, [u8]>)> {
        let until = (Bound::Unbounded, Bound::Included(key));
        let (begin, end) = self.0.range::<[u8], _>(until).next_back()?;
        Some((begin, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_melt_into_one_another() {
        let mut set = Intervals::default();
        set.insert_range(b"a", b"c");
        set.insert_range(b"e", b"g");
        set.insert_range(b"b", b"f");
        assert_eq!(set.0.len(), 1);
        assert!(set.contains(b"a"));
        assert!(set.contains(b"fz"));
        assert!(!set.contains(b"g"));
        set.insert_range(b"x", b"b");
        assert_eq!(set.0.len(), 1);
    }
}
