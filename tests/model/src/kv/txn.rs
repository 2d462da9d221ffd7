//! A request in progress. Everything that it writes has the same, next revision.

use std::ops::RangeBounds;

use bytes::Bytes;
use keelson_proto::etcdserverpb::request_op::Request as Op;
use keelson_proto::etcdserverpb::response_op::Response as Answer;
use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RequestOp, ResponseOp,
    TxnRequest, TxnResponse,
};
use keelson_proto::mvccpb::KeyValue;

use super::{Kv, Refusal, bounds, compare, header, range};

/// The state that all compares and checks read is the one before the request.
pub(super) struct Turn<'a> {
    kv: &'a mut Kv,
    before: i64,
    wrote: bool,
}

impl Turn<'_> {
    pub(super) fn new(kv: &mut Kv) -> Turn<'_> {
        kv.changes.clear();
        let before = kv.revision;
        Turn {
            kv,
            before,
            wrote: false,
        }
    }

    /// The revision with the writes so far.
    pub(super) fn revision(&self) -> i64 {
        self.before + i64::from(self.wrote)
    }

    pub(super) fn end(self) {
        self.kv.revision = self.revision();
    }

    pub(super) fn put(&mut self, request: &PutRequest) -> PutResponse {
        let old = self.kv.pairs(&request.key, &[], i64::MAX);
        let old = old.first().map(|kv| (*kv).clone());
        self.wrote = true;
        let revision = self.revision();
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(0, |kv| kv.version) + 1,
            value: match (&old, request.ignore_value) {
                (Some(old), true) => old.value.clone(),
                _ => request.value.clone(),
            },
            lease: match (&old, request.ignore_lease) {
                (Some(old), true) => old.lease,
                _ => request.lease,
            },
        };
        self.kv.set(&request.key, revision, Some(kv));
        PutResponse {
            header: header(revision),
            prev_kv: old.filter(|_| request.prev_kv),
        }
    }

    pub(super) fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found = self.kv.pairs(&request.key, &request.range_end, i64::MAX);
        let found: Vec<KeyValue> = found.into_iter().cloned().collect();
        for kv in &found {
            self.remove(&kv.key);
        }
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: found.len() as i64,
            prev_kvs: if request.prev_kv { found } else { Vec::new() },
        }
    }

    /// Deletes a key that exists.
    pub(super) fn remove(&mut self, key: &Bytes) {
        self.wrote = true;
        self.kv.set(key, self.revision(), None);
    }

    /// Carries out a transaction that has been checked.
    pub(super) fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let (succeeded, operations) = self.branch(request);
        let responses = operations.iter().map(|operation| self.operation(operation));
        TxnResponse {
            responses: responses.collect(),
            // etcd fills in the header of the outermost transaction alone.
            header: header(0),
            succeeded,
        }
    }

    fn operation(&mut self, operation: &RequestOp) -> ResponseOp {
        let respond = |request: &Op| match request {
            Op::RequestRange(request) => {
                let read = range::range(self.kv, request, self.revision());
                Answer::ResponseRange(read.expect("checked"))
            }
            Op::RequestPut(put) => Answer::ResponsePut(self.put(put)),
            Op::RequestDeleteRange(delete) => Answer::ResponseDeleteRange(self.delete(delete)),
            Op::RequestTxn(txn) => Answer::ResponseTxn(self.txn(txn)),
        };
        ResponseOp {
            response: operation.request.as_ref().map(respond),
        }
    }

    pub(super) fn check_put(&self, request: &PutRequest) -> Result<(), Refusal> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.kv.pairs(&request.key, &[], self.before).is_empty() {
            return Err(Refusal::KeyNotFound);
        }
        match request.lease == 0 || self.kv.has_lease(request.lease) {
            true => Ok(()),
            false => Err(Refusal::LeaseNotFound),
        }
    }

    /// Checks the puts of the branches that will be taken, given the deletions before them.
    pub(super) fn check_puts(
        &self,
        txn: &TxnRequest,
        deleted: &mut Vec<DeleteRangeRequest>,
    ) -> Result<(), Refusal> {
        for request in self.requests(txn) {
            match request {
                Op::RequestPut(put) => {
                    let gone = |delete: &DeleteRangeRequest| {
                        let bounds = bounds(&delete.key, &delete.range_end);
                        RangeBounds::<[u8]>::contains(&bounds, &put.key[..])
                    };
                    if (put.ignore_value || put.ignore_lease) && deleted.iter().any(gone) {
                        return Err(Refusal::KeyNotFound);
                    }
                    self.check_put(put)?;
                }
                Op::RequestDeleteRange(delete) => deleted.push(delete.clone()),
                Op::RequestTxn(nested) => self.check_puts(nested, deleted)?,
                Op::RequestRange(_) => {}
            }
        }
        Ok(())
    }

    /// Checks the revisions of the ranges of the branches that will be taken.
    pub(super) fn check_ranges(&self, txn: &TxnRequest) -> Result<(), Refusal> {
        for request in self.requests(txn) {
            match request {
                Op::RequestRange(range) if range.revision > self.before => {
                    return Err(Refusal::FutureRevision);
                }
                Op::RequestRange(range)
                    if range.revision != 0 && range.revision < self.kv.compacted =>
                {
                    return Err(Refusal::Compacted);
                }
                Op::RequestTxn(nested) => self.check_ranges(nested)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn requests<'a>(&self, txn: &'a TxnRequest) -> impl Iterator<Item = &'a Op> + use<'a> {
        let (_, operations) = self.branch(txn);
        operations.iter().filter_map(|op| op.request.as_ref())
    }

    /// Whether all compares hold, and the operations that follow.
    fn branch<'a>(&self, txn: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let holds = txn.compare.iter().all(|compare| {
            let found = self.kv.pairs(&compare.key, &compare.range_end, self.before);
            compare::holds(compare, found)
        });
        match holds {
            true => (true, &txn.success),
            false => (false, &txn.failure),
        }
    }
}
