//! What a request must be before it is proposed: etcd v3.7.1 `api/v3rpc/key.go`.
//!
//! `Store` calls these, not the gRPC handlers, so that every way in has the same rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;

use crate::Error;

/// A range needs a key and a known order.
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(Error::InvalidSortOption)
    }
}

/// A range in pieces comes in key order and unfiltered.
pub fn range_stream(request: &RangeRequest) -> Result<(), Error> {
    range(request)?;
    let by_key = request.sort_target == SortTarget::Key as i32
        && request.sort_order == SortOrder::Ascend as i32;
    if request.sort_order != SortOrder::None as i32 && !by_key {
        return Err(Error::Unimplemented(
            "RangeStream does not support custom sort orders",
        ));
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters != [0; 4] {
        return Err(Error::Unimplemented(
            "RangeStream does not support revision filters",
        ));
    }
    Ok(())
}

/// A put needs a key, and does not give what it says to ignore.
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

/// A delete needs a key.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    Ok(())
}

/// A transaction has at most `ops_max` operations, each of them sound, and writes no key twice.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    operations(request, ops_max)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

fn operations(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let used = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let left = ops_max.checked_sub(used).ok_or(Error::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    let mut branches = request.success.iter().chain(&request.failure);
    branches.try_for_each(|op| operation(op, left))
}

fn operation(op: &RequestOp, ops_max: usize) -> Result<(), Error> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => operations(request, ops_max),
        None => Err(Error::KeyNotFound),
    }
}

/// What one branch writes, its nested transactions included. etcd's `checkIntervals`.
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

    /// Only one of the two branches of a nested transaction runs: both may write a key.
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

/// A set of half-open intervals, none of which touches another: begin -> end.
#[derive(Default)]
struct Intervals<'a>(BTreeMap<&'a [u8], Cow<'a, [u8]>>);

impl<'a> Intervals<'a> {
    /// No end is one key. An end of `\0`, "to the last key", reads here as it does in etcd: as the
    /// smallest key, so that such a delete conflicts with no put.
    fn insert_range(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.insert(key, Cow::Owned([key, b"\0"].concat()));
        } else if key < range_end {
            self.insert(key, Cow::Borrowed(range_end));
        }
    }

    fn insert(&mut self, mut begin: &'a [u8], mut end: Cow<'a, [u8]>) {
        // Swallow every interval that begins within the new one, and the one it begins in.
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

    /// The last interval that begins at `key` or before.
    fn last_until(&self, key: &[u8]) -> Option<(&'a [u8], &Cow<'a, [u8]>)> {
        let until = (Bound::Unbounded, Bound::Included(key));
        let (begin, end) = self.0.range::<[u8], _>(until).next_back()?;
        Some((begin, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static str) -> RequestOp {
        op(Request::RequestPut(PutRequest {
            key: key.into(),
            ..Default::default()
        }))
    }

    fn delete_op(key: &'static str, range_end: &'static str) -> RequestOp {
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            ..Default::default()
        }))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest {
            success,
            failure,
            ..Default::default()
        }))
    }

    fn op(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    #[track_caller]
    fn check(success: Vec<RequestOp>, expected: Result<(), Error>) {
        let request = TxnRequest {
            success,
            ..Default::default()
        };
        assert_eq!(txn(&request, 3), expected);
    }

    #[test]
    fn a_branch_writes_no_key_twice() {
        let duplicate = || Err(Error::DuplicateKey);
        check(vec![put_op("a"), put_op("b")], Ok(()));
        check(vec![put_op("a"), put_op("a")], duplicate());
        check(vec![put_op("a"), delete_op("a", "")], duplicate());
        check(vec![put_op("a\0"), delete_op("a", "")], Ok(()));
        check(vec![delete_op("a", "c"), put_op("b")], duplicate());
        check(vec![delete_op("a", "c"), put_op("c")], Ok(()));
        check(vec![delete_op("a", "c"), delete_op("b", "d")], Ok(()));
        check(
            vec![delete_op("a", "c"), delete_op("b", "e"), put_op("d")],
            duplicate(),
        );
        // etcd does not see that "from a on" includes b.
        check(vec![delete_op("a", "\0"), put_op("b")], Ok(()));
    }

    #[test]
    fn both_branches_of_a_nested_transaction_may_write_a_key() {
        let both = || nested(vec![put_op("a")], vec![put_op("a")]);
        check(vec![both()], Ok(()));
        check(vec![both(), put_op("a")], Err(Error::DuplicateKey));
        check(vec![both(), both()], Err(Error::DuplicateKey));
        check(vec![both(), delete_op("a", "b")], Err(Error::DuplicateKey));
    }

    #[test]
    fn operations_are_counted_with_their_nested_ones() {
        let five = |n: usize| (0..n).map(|_| delete_op("a", "")).collect::<Vec<_>>();
        check(five(3), Ok(()));
        check(five(4), Err(Error::TooManyOps));
        check(vec![nested(five(2), vec![])], Ok(()));
        check(vec![nested(five(3), vec![])], Err(Error::TooManyOps));
        check(vec![nested(vec![], five(3))], Err(Error::TooManyOps));
    }

    #[test]
    fn an_operation_of_no_kind_is_a_key_not_found() {
        check(vec![RequestOp { request: None }], Err(Error::KeyNotFound));
    }

    #[test]
    fn puts_do_not_give_what_they_ignore() {
        let key = || PutRequest {
            key: "a".into(),
            ..Default::default()
        };
        assert_eq!(put(&PutRequest::default()), Err(Error::EmptyKey));
        let value = PutRequest {
            value: "v".into(),
            ignore_value: true,
            ..key()
        };
        assert_eq!(put(&value), Err(Error::ValueProvided));
        let lease = PutRequest {
            lease: 1,
            ignore_lease: true,
            ..key()
        };
        assert_eq!(put(&lease), Err(Error::LeaseProvided));
        assert_eq!(put(&key()), Ok(()));
    }

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
