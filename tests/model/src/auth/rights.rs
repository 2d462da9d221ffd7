//! What a user's roles permit, key by key.

use bytes::Bytes;
use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};

/// A request, as far as rights are concerned.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// A read of a range.
    Range(&'a RangeRequest),
    /// A put.
    Put(&'a PutRequest),
    /// A deletion.
    Delete(&'a DeleteRangeRequest),
    /// A transaction.
    Txn(&'a TxnRequest),
    /// A watch of a range: `key` and `range_end`.
    Watch(&'a [u8], &'a [u8]),
    /// A compaction.
    Compact,
    /// The grant of a lease.
    Grant,
    /// The revocation of the lease with the attached keys.
    Revoke,
}

/// What some roles permit.
#[derive(Clone, Debug)]
pub struct Rights<'a> {
    /// A key in each part into which the ranges of permissions and requests divide the key space.
    pub keys: &'a [Bytes],
    /// With `key` and `range_end`.
    pub permissions: Vec<(Type, (Bytes, Bytes))>,
    /// The keys of the lease that the request names.
    pub attached: &'a [Bytes],
    /// Whether a role permits compactions.
    pub may_compact: bool,
}

/// etcd's meaning of `key` and `range_end`.
fn contains(from: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == from,
        [0] => from <= key,
        end => from <= key && key < end,
    }
}

impl Rights<'_> {
    /// Whether they permit a request.
    pub fn permits(&self, asked: &Asked<'_>) -> bool {
        match asked {
            Asked::Range(it) => self.range(Type::Read, &it.key, &it.range_end),
            Asked::Put(put) => self.put(put),
            Asked::Delete(delete) => self.delete(delete),
            Asked::Txn(txn) => self.txn(txn),
            Asked::Watch(key, end) => self.range(Type::Read, key, end),
            Asked::Compact => self.may_compact,
            Asked::Grant => true,
            Asked::Revoke => self.lease(Type::Write),
        }
    }

    fn key(&self, kind: Type, key: &[u8]) -> bool {
        let mut permissions = self.permissions.iter();
        permissions.any(|(of, (from, end))| {
            // In etcd the empty key of a permission is the last one.
            let of_kind = *of == kind || *of == Type::Readwrite;
            of_kind && !from.is_empty() && contains(from, end, key)
        })
    }

    /// Whether each key of the range is permitted; an empty range counts as its first key.
    fn range(&self, kind: Type, from: &[u8], end: &[u8]) -> bool {
        let mut inside = self
            .keys
            .iter()
            .filter(|key| contains(from, end, key))
            .peekable();
        match inside.peek() {
            None => self.key(kind, from),
            Some(_) => inside.all(|key| self.key(kind, key)),
        }
    }

    /// Whether each key of the lease is permitted.
    pub fn lease(&self, kind: Type) -> bool {
        self.attached.iter().all(|key| self.key(kind, key))
    }

    fn put(&self, put: &PutRequest) -> bool {
        self.key(Type::Write, &put.key)
            && (!put.prev_kv || self.key(Type::Read, &put.key))
            && (put.lease == 0 || self.lease(Type::Write))
    }

    fn delete(&self, delete: &DeleteRangeRequest) -> bool {
        let (key, end) = (&delete.key, &delete.range_end);
        self.range(Type::Write, key, end) && (!delete.prev_kv || self.range(Type::Read, key, end))
    }

    /// Both branches, whichever is taken.
    fn txn(&self, txn: &TxnRequest) -> bool {
        let mut compared = txn.compare.iter();
        let mut ops = txn.success.iter().chain(&txn.failure);
        compared.all(|it| self.range(Type::Read, &it.key, &it.range_end))
            && ops.all(|op| match op.request.as_ref() {
                Some(Request::RequestRange(it)) => self.permits(&Asked::Range(it)),
                Some(Request::RequestPut(it)) => self.put(it),
                Some(Request::RequestDeleteRange(it)) => self.delete(it),
                Some(Request::RequestTxn(it)) => self.txn(it),
                None => true,
            })
    }
}
