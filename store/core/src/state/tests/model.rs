//! A model of the store that keeps a full copy of every state.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::response_op::Response;
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::KeyValue;

use crate::state::{Error, Lease};

type Pairs = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub(super) struct Model {
    /// By revision; the state before the first is empty.
    states: Vec<Pairs>,
    pub(super) compacted: i64,
    /// By id, without the number of keys.
    leases: BTreeMap<i64, Lease>,
}

/// A transaction: the state that it creates, and whether it changed anything.
struct Work<'a> {
    model: &'a Model,
    pairs: Pairs,
    wrote: bool,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn inside(key: &[u8], from: &[u8], to: &[u8]) -> bool {
    match to {
        [] => key == from,
        [0] => key >= from,
        _ => key >= from && key < to,
    }
}

fn select(pairs: &Pairs, from: &[u8], to: &[u8]) -> Vec<KeyValue> {
    let inside = pairs.values().filter(|kv| inside(&kv.key, from, to));
    inside.cloned().collect()
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            states: vec![Pairs::new(); 2],
            compacted: -1,
            leases: BTreeMap::new(),
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    fn current(&self) -> &Pairs {
        &self.states[self.states.len() - 1]
    }

    fn begin(&self) -> Work<'_> {
        Work {
            model: self,
            pairs: self.current().clone(),
            wrote: false,
        }
    }

    fn commit(&mut self, pairs: Option<Pairs>) {
        self.states.extend(pairs);
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.begin().range(request)
    }

    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        let mut work = self.begin();
        work.check_put(request)?;
        let response = work.put(request);
        let pairs = work.end();
        self.commit(pairs);
        Ok(response)
    }

    pub(super) fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut work = self.begin();
        let response = work.delete(request);
        let pairs = work.end();
        self.commit(pairs);
        response
    }

    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut work = self.begin();
        work.check(request, Some(&mut Vec::new()))?;
        work.check(request, None)?;
        let mut response = work.txn(request);
        response.header = header(work.revision());
        let pairs = work.end();
        self.commit(pairs);
        Ok(response)
    }

    pub(super) fn grant(&mut self, id: i64, granted: u64, ttl: i64) -> Result<(), Error> {
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let lease = Lease {
            id,
            granted,
            ttl,
            remaining: 0,
            keys: 0,
        };
        self.leases.insert(id, lease);
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: i64) -> Result<(), Error> {
        self.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        let mut pairs = self.current().clone();
        pairs.retain(|_, kv| kv.lease != id);
        let wrote = pairs.len() < self.current().len();
        self.commit(wrote.then_some(pairs));
        Ok(())
    }

    /// The lease of that id, if it was granted by that entry.
    pub(super) fn granted_by(&mut self, id: i64, granted: u64) -> Option<&mut Lease> {
        let lease = self.leases.get_mut(&id);
        lease.filter(|lease| lease.granted == granted)
    }

    /// Every lease with its keys.
    pub(super) fn leases(&self) -> Vec<(Lease, Vec<Bytes>)> {
        let with_keys = |lease: &Lease| {
            let attached = self.current().values().filter(|kv| kv.lease == lease.id);
            let names: Vec<_> = attached.map(|kv| kv.key.clone()).collect();
            let keys = names.len();
            (Lease { keys, ..*lease }, names)
        };
        self.leases.values().map(with_keys).collect()
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision() {
            return Err(Error::FutureRev);
        }
        self.compacted = revision;
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut kvs = select(self.current(), &compare.key, &compare.range_end);
        if kvs.is_empty() {
            if compare.target() == CompareTarget::Value {
                return false;
            }
            kvs.push(KeyValue::default());
        }
        kvs.iter().all(|kv| {
            let order = match (compare.target(), compare.target_union.as_ref()) {
                (CompareTarget::Version, Some(TargetUnion::Version(n))) => kv.version.cmp(n),
                (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => {
                    kv.create_revision.cmp(n)
                }
                (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => kv.mod_revision.cmp(n),
                (CompareTarget::Value, Some(TargetUnion::Value(v))) => kv.value.cmp(v),
                (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => kv.lease.cmp(n),
                other => panic!("not generated: {other:?}"),
            };
            match compare.result() {
                CompareResult::Equal => order.is_eq(),
                CompareResult::NotEqual => order.is_ne(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
            }
        })
    }

    fn branch<'a>(&self, txn: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        match txn.compare.iter().all(|compare| self.holds(compare)) {
            true => (true, &txn.success),
            false => (false, &txn.failure),
        }
    }
}

impl Work<'_> {
    fn revision(&self) -> i64 {
        self.model.revision() + i64::from(self.wrote)
    }

    fn end(self) -> Option<Pairs> {
        self.wrote.then_some(self.pairs)
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let revision = match request.revision {
            ..=0 => self.revision(),
            asked => asked,
        };
        if revision > self.revision() {
            return Err(Error::FutureRev);
        }
        if revision < self.model.compacted {
            return Err(Error::Compacted);
        }
        let pairs = self.model.states.get(revision as usize);
        let pairs = match request.revision {
            ..=0 => &self.pairs,
            _ => pairs.unwrap_or(&self.pairs),
        };
        let mut kvs = select(pairs, &request.key, &request.range_end);
        let count = kvs.len() as i64;
        let more = shape(request, &mut kvs);
        Ok(RangeResponse {
            header: header(self.revision()),
            kvs,
            more,
            count,
        })
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), Error> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && !self.model.current().contains_key(&request.key) {
            return Err(Error::KeyNotFound);
        }
        match request.lease == 0 || self.model.leases.contains_key(&request.lease) {
            true => Ok(()),
            false => Err(Error::LeaseNotFound),
        }
    }

    /// Applies puts if a list for the deleted keys is given, else ranges.
    fn check(
        &self,
        txn: &TxnRequest,
        mut deleted: Option<&mut Vec<DeleteRangeRequest>>,
    ) -> Result<(), Error> {
        let (_, ops) = self.model.branch(txn);
        for op in ops {
            match (op.request.as_ref().expect("generated"), &mut deleted) {
                (Request::RequestPut(put), Some(deleted)) => {
                    let gone = |d: &DeleteRangeRequest| inside(&put.key, &d.key, &d.range_end);
                    if (put.ignore_value || put.ignore_lease) && deleted.iter().any(gone) {
                        return Err(Error::KeyNotFound);
                    }
                    self.check_put(put)?;
                }
                (Request::RequestDeleteRange(delete), Some(deleted)) => {
                    deleted.push(delete.clone());
                }
                (Request::RequestRange(range), None) if range.revision != 0 => {
                    if range.revision > self.model.revision() {
                        return Err(Error::FutureRev);
                    }
                    if range.revision < self.model.compacted {
                        return Err(Error::Compacted);
                    }
                }
                (Request::RequestTxn(nested), deleted) => {
                    self.check(nested, deleted.as_deref_mut())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let old = self.pairs.get(&request.key).cloned();
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
        self.pairs.insert(request.key.clone(), kv);
        PutResponse {
            header: header(revision),
            prev_kv: old.filter(|_| request.prev_kv),
        }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let doomed = select(&self.pairs, &request.key, &request.range_end);
        for kv in &doomed {
            self.pairs.remove(&kv.key);
            self.wrote = true;
        }
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: doomed.len() as i64,
            prev_kvs: if request.prev_kv { doomed } else { Vec::new() },
        }
    }

    fn txn(&mut self, txn: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = self.model.branch(txn);
        let respond = |op: &RequestOp| match op.request.as_ref().expect("generated") {
            Request::RequestRange(r) => Response::ResponseRange(self.range(r).expect("checked")),
            Request::RequestPut(r) => Response::ResponsePut(self.put(r)),
            Request::RequestDeleteRange(r) => Response::ResponseDeleteRange(self.delete(r)),
            Request::RequestTxn(r) => Response::ResponseTxn(self.txn(r)),
        };
        let responses = ops.iter().map(respond);
        let responses = responses.map(|response| ResponseOp {
            response: Some(response),
        });
        TxnResponse {
            responses: responses.collect(),
            header: header(0),
            succeeded,
        }
    }
}

/// Filters, sorts, limits and strips; returns whether the limit applied.
fn shape(request: &RangeRequest, kvs: &mut Vec<KeyValue>) -> bool {
    let limit = request.limit.max(0) as usize;
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let order = request.sort_order();
    // A quirk: without an order and without filters, the limit applies first.
    if limit > 0 && order == SortOrder::None && filters == [0; 4] {
        kvs.truncate(limit + 1);
    }
    let [min_mod, max_mod, min_create, max_create] = filters;
    kvs.retain(|kv| min_mod == 0 || kv.mod_revision >= min_mod);
    kvs.retain(|kv| max_mod == 0 || kv.mod_revision <= max_mod);
    kvs.retain(|kv| min_create == 0 || kv.create_revision >= min_create);
    kvs.retain(|kv| max_create == 0 || kv.create_revision <= max_create);
    match request.sort_target() {
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|kv| sign(order) * kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| sign(order) * kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| sign(order) * kv.mod_revision),
        SortTarget::Value if order == SortOrder::Descend => {
            kvs.sort_by(|a, b| b.value.cmp(&a.value));
        }
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if request.sort_target() == SortTarget::Key && order == SortOrder::Descend {
        kvs.reverse();
    }
    let more = limit > 0 && kvs.len() > limit && !request.count_only;
    if limit > 0 {
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    if request.count_only {
        kvs.clear();
    }
    more
}

fn sign(order: SortOrder) -> i64 {
    match order {
        SortOrder::Descend => -1,
        _ => 1,
    }
}
