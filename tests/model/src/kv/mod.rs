//! A model of etcd's KV API on a single server: keys, revisions, transactions, compaction.
//!
//! It keeps every version, and has no limits on size. Leases have no clock: their expiry is a
//! request. Semantics are etcd's (`server/etcdserver/txn`, `mvcc/kvstore_txn.go`, `lease`). What
//! etcd refuses before it is proposed, such as an empty key, is not checked.

mod compare;
mod lease;
mod messages;
mod range;
#[cfg(test)]
mod tests;
mod txn;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use keelson_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use keelson_proto::mvccpb::KeyValue;

pub use lease::Lease;
pub use messages::{Refusal, Request, Response};
use txn::Turn;

/// The store.
#[derive(Clone, Debug)]
pub struct Kv {
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    /// By id, without their keys.
    leases: BTreeMap<i64, Lease>,
}

/// A key at a revision.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    /// `None` if it was deleted.
    kv: Option<KeyValue>,
}

impl Default for Kv {
    fn default() -> Kv {
        Kv {
            revision: 1,
            compacted: -1,
            keys: BTreeMap::new(),
            changes: BTreeMap::new(),
            leases: BTreeMap::new(),
        }
    }
}

impl Kv {
    /// The revision of the last write; 1 before the first one.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision of the last compaction; -1 before the first one.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The changes of the last request: keys and their new values, `None` for a deleted key.
    pub fn changes(&self) -> &BTreeMap<Bytes, Option<Bytes>> {
        &self.changes
    }

    /// Reverts the last request, which must have changed something.
    pub fn undo(&mut self) {
        for (key, _) in std::mem::take(&mut self.changes) {
            let versions = self.keys.get_mut(&key).expect("a changed key has versions");
            versions.retain(|version| version.revision < self.revision);
        }
        self.revision -= 1;
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// The server's refusal. The request changed nothing.
    pub fn apply(&mut self, request: &Request) -> Result<Response, Refusal> {
        self.changes.clear();
        match request {
            Request::Range(range) => self.range(range).map(Response::Range),
            Request::Put(put) => self.put(put).map(Response::Put),
            Request::DeleteRange(delete) => Ok(Response::DeleteRange(self.delete(delete))),
            Request::Txn(txn) => self.txn(txn).map(Response::Txn),
            Request::Compact(request) => self.compact(request.revision).map(Response::Compact),
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// The revision is compacted, or in the future.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        range::range(self, request, self.revision)
    }

    /// Writes a key.
    ///
    /// # Errors
    /// A value or lease to be kept of an absent key, or an absent lease.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        let mut turn = Turn::new(self);
        turn.check_put(request)?;
        let response = turn.put(request);
        turn.end();
        Ok(response)
    }

    /// Deletes keys.
    pub fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut turn = Turn::new(self);
        let response = turn.delete(request);
        turn.end();
        response
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// The error of one of its operations, before any of them has taken effect.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let mut turn = Turn::new(self);
        turn.check_puts(request, &mut Vec::new())?;
        turn.check_ranges(request)?;
        let mut response = turn.txn(request);
        response.header = header(turn.revision());
        turn.end();
        Ok(response)
    }

    /// Ends reads before the revision.
    ///
    /// # Errors
    /// The revision is compacted, or in the future.
    pub fn compact(&mut self, revision: i64) -> Result<CompactionResponse, Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if self.revision < revision {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = revision;
        Ok(CompactionResponse {
            header: header(self.revision),
        })
    }

    /// The pairs between the bounds at a revision, in key order.
    fn pairs(&self, key: &[u8], range_end: &[u8], revision: i64) -> Vec<&KeyValue> {
        let at = |versions: &'_ Vec<Version>| {
            let upto = versions.partition_point(|version| version.revision <= revision);
            upto.checked_sub(1)
        };
        let rows = self.keys.range::<[u8], _>(bounds(key, range_end));
        rows.filter_map(|(_, versions)| versions[at(versions)?].kv.as_ref())
            .collect()
    }

    fn set(&mut self, key: &Bytes, revision: i64, kv: Option<KeyValue>) {
        let value = kv.as_ref().map(|kv| kv.value.clone());
        self.changes.insert(key.clone(), value);
        let versions = self.keys.entry(key.clone()).or_default();
        // Of two writes in one transaction only the later one can be read.
        let last = versions.last();
        if last.is_some_and(|last| last.revision == revision) {
            versions.pop();
        }
        versions.push(Version { revision, kv });
    }
}

/// The bounds by etcd's rules: without an end one key, with an end of one zero byte everything
/// after.
fn bounds<'a>(key: &'a [u8], range_end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    match range_end {
        [] => (Bound::Included(key), Bound::Included(key)),
        [0] => (Bound::Included(key), Bound::Unbounded),
        // An empty or reversed range is empty; `BTreeMap::range` would panic.
        end if end <= key => (Bound::Included(key), Bound::Excluded(key)),
        end => (Bound::Included(key), Bound::Excluded(end)),
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}
