//! A model of etcd's KV API on a single server: keys, revisions, transactions, compaction.
//!
//! It keeps every version and has no leases, sorting, or limits on size. Semantics are etcd 3.4's
//! (`server/etcdserver/apply.go`, `mvcc/kvstore_txn.go`).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse, request_op, response_op,
};
use keelson_proto::mvccpb::KeyValue;

use crate::history::{Request, Response};

/// Why the model refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The revision has been compacted.
    Compacted,
    /// The revision is in the future.
    FutureRevision,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Kv {
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    changes: BTreeMap<Bytes, Option<Bytes>>,
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
            compacted: 0,
            keys: BTreeMap::new(),
            changes: BTreeMap::new(),
        }
    }
}

impl Kv {
    /// The revision of the last write; 1 before the first one.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The changes of the last request: keys and their new values, `None` for a deleted key.
    pub fn changes(&self) -> &BTreeMap<Bytes, Option<Bytes>> {
        &self.changes
    }

    /// Reverts the last request.
    pub fn undo(&mut self) {
        for (key, _) in std::mem::take(&mut self.changes) {
            let versions = self.keys.get_mut(&key).expect("a changed key has versions");
            versions.retain(|version| version.revision < self.revision);
        }
        self.revision -= 1;
    }

    /// Carries out one request.
    pub fn apply(&mut self, request: &Request) -> Result<Response, Refusal> {
        self.changes.clear();
        let mut turn = Turn::new(self);
        match request {
            Request::Range(range) => turn.range(range).map(Response::Range),
            Request::Put(put) => Ok(Response::Put(turn.put(put))),
            Request::DeleteRange(delete) => Ok(Response::DeleteRange(turn.delete(delete))),
            Request::Txn(txn) => turn.txn(txn).map(Response::Txn),
            Request::Compact(compact) => self.compact(compact).map(Response::Compact),
        }
    }

    fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, Refusal> {
        if request.revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if self.revision < request.revision {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = request.revision;
        Ok(CompactionResponse {
            header: header(self.revision),
        })
    }

    /// The pairs between the bounds at a revision, in key order.
    fn pairs(&self, key: &Bytes, range_end: &Bytes, revision: i64) -> Vec<&KeyValue> {
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
        if versions
            .last()
            .is_some_and(|last| last.revision == revision)
        {
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

/// One request in progress: everything it writes has the same, next revision.
struct Turn<'a> {
    kv: &'a mut Kv,
    next: i64,
}

impl Turn<'_> {
    fn new(kv: &mut Kv) -> Turn<'_> {
        let next = kv.revision + 1;
        Turn { kv, next }
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        if self.kv.revision < request.revision {
            return Err(Refusal::FutureRevision);
        }
        if 0 < request.revision && request.revision < self.kv.compacted {
            return Err(Refusal::Compacted);
        }
        let revision = match request.revision {
            0 => self.kv.revision,
            revision => revision,
        };
        let found = self.kv.pairs(&request.key, &request.range_end, revision);
        let limit = match (request.count_only, request.limit) {
            (true, _) => 0,
            (false, 0) => found.len(),
            (false, limit) => found.len().min(limit as usize),
        };
        let value = |kv: &&KeyValue| KeyValue {
            value: match request.keys_only {
                true => Bytes::new(),
                false => kv.value.clone(),
            },
            ..(*kv).clone()
        };
        Ok(RangeResponse {
            header: header(self.kv.revision),
            kvs: found[..limit].iter().map(value).collect(),
            more: !request.count_only && limit < found.len(),
            count: found.len() as i64,
        })
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let previous = self.kv.pairs(&request.key, &Bytes::new(), i64::MAX);
        let previous = previous.first().map(|kv| (*kv).clone());
        let kv = KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            create_revision: previous.as_ref().map_or(self.next, |kv| kv.create_revision),
            mod_revision: self.next,
            version: previous.as_ref().map_or(0, |kv| kv.version) + 1,
            lease: request.lease,
        };
        self.kv.set(&request.key, self.next, Some(kv));
        self.kv.revision = self.next;
        PutResponse {
            header: header(self.next),
            prev_kv: previous.filter(|_| request.prev_kv),
        }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found = self.kv.pairs(&request.key, &request.range_end, i64::MAX);
        let found: Vec<KeyValue> = found.into_iter().cloned().collect();
        for kv in &found {
            self.kv.set(&kv.key, self.next, None);
            self.kv.revision = self.next;
        }
        DeleteRangeResponse {
            header: header(self.kv.revision),
            deleted: found.len() as i64,
            prev_kvs: if request.prev_kv { found } else { Vec::new() },
        }
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let operations = match succeeded {
            true => &request.success,
            false => &request.failure,
        };
        let responses: Result<Vec<ResponseOp>, Refusal> =
            operations.iter().map(|op| self.operation(op)).collect();
        Ok(TxnResponse {
            header: header(self.kv.revision),
            succeeded,
            responses: responses?,
        })
    }

    fn operation(&mut self, operation: &RequestOp) -> Result<ResponseOp, Refusal> {
        use request_op::Request as Op;
        use response_op::Response as Answer;
        let response = match operation.request.as_ref() {
            Some(Op::RequestRange(range)) => Some(Answer::ResponseRange(self.range(range)?)),
            Some(Op::RequestPut(put)) => Some(Answer::ResponsePut(self.put(put))),
            Some(Op::RequestDeleteRange(delete)) => {
                Some(Answer::ResponseDeleteRange(self.delete(delete)))
            }
            Some(Op::RequestTxn(txn)) => Some(Answer::ResponseTxn(self.txn(txn)?)),
            None => None,
        };
        Ok(ResponseOp { response })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.kv.pairs(&compare.key, &compare.range_end, i64::MAX);
        if found.is_empty() {
            // etcd: a missing key has no value, but its numbers are all 0.
            let by_value = compare.target() == CompareTarget::Value;
            return !by_value && pair_holds(compare, &KeyValue::default());
        }
        found.into_iter().all(|kv| pair_holds(compare, kv))
    }
}

fn pair_holds(compare: &Compare, kv: &KeyValue) -> bool {
    let number = |seen: i64| match compare.target_union {
        Some(
            TargetUnion::Version(wanted)
            | TargetUnion::CreateRevision(wanted)
            | TargetUnion::ModRevision(wanted)
            | TargetUnion::Lease(wanted),
        ) => seen.cmp(&wanted),
        _ => seen.cmp(&0),
    };
    let ordering = match compare.target() {
        CompareTarget::Version => number(kv.version),
        CompareTarget::Create => number(kv.create_revision),
        CompareTarget::Mod => number(kv.mod_revision),
        CompareTarget::Lease => number(kv.lease),
        CompareTarget::Value => match &compare.target_union {
            Some(TargetUnion::Value(wanted)) => kv.value.cmp(wanted),
            _ => kv.value.cmp(&Bytes::new()),
        },
    };
    match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Request {
        Request::Put(PutRequest {
            key: key.into(),
            value: value.into(),
            prev_kv: true,
            ..PutRequest::default()
        })
    }

    fn range(key: &'static str, range_end: &'static str, revision: i64) -> Request {
        Request::Range(RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            revision,
            ..RangeRequest::default()
        })
    }

    fn values(response: Result<Response, Refusal>) -> Vec<Bytes> {
        match response {
            Ok(Response::Range(range)) => range.kvs.into_iter().map(|kv| kv.value).collect(),
            other => panic!("not a range: {other:?}"),
        }
    }

    #[test]
    fn versions_revisions_and_previous_values() {
        let mut kv = Kv::default();
        kv.apply(&put("a", "1")).unwrap();
        kv.apply(&put("b", "2")).unwrap();
        let Ok(Response::Put(response)) = kv.apply(&put("a", "3")) else {
            panic!("a put answers a put");
        };
        assert_eq!(response.header.unwrap().revision, 4);
        let previous = response.prev_kv.unwrap();
        assert_eq!((previous.mod_revision, previous.version), (2, 1));
        assert_eq!(values(kv.apply(&range("a", "c", 0))), ["3", "2"]);
        assert_eq!(values(kv.apply(&range("a", "c", 3))), ["1", "2"]);
        assert_eq!(values(kv.apply(&range("a", "", 2))), ["1"]);
        assert_eq!(kv.apply(&range("a", "", 5)), Err(Refusal::FutureRevision));
    }

    #[test]
    fn compaction_forgets_what_lies_before_it() {
        let mut kv = Kv::default();
        kv.apply(&put("a", "1")).unwrap();
        kv.apply(&put("a", "2")).unwrap();
        let compact = |revision| {
            Request::Compact(CompactionRequest {
                revision,
                physical: false,
            })
        };
        kv.apply(&compact(3)).unwrap();
        assert_eq!(kv.apply(&range("a", "", 2)), Err(Refusal::Compacted));
        assert_eq!(values(kv.apply(&range("a", "", 3))), ["2"]);
        assert_eq!(kv.apply(&compact(3)), Err(Refusal::Compacted));
        assert_eq!(kv.apply(&compact(4)), Err(Refusal::FutureRevision));
    }

    #[test]
    fn a_missing_key_has_numbers_of_zero_and_no_value() {
        let kv = &mut Kv::default();
        let compare = |target: CompareTarget, union| Compare {
            key: "a".into(),
            target: target.into(),
            target_union: Some(union),
            ..Compare::default()
        };
        let turn = Turn::new(kv);
        assert!(turn.holds(&compare(CompareTarget::Mod, TargetUnion::ModRevision(0))));
        let empty = TargetUnion::Value(Bytes::new());
        assert!(!turn.holds(&compare(CompareTarget::Value, empty)));
    }
}
