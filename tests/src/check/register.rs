//! Splits a history into the steps on each key, by values alone: the input of `wgl`.
//!
//! Gets, puts and deletes are supported; unlimited ranges at the current revision, each key's part
//! by itself, which is weaker and still valid; and the one transaction that is a compare-and-swap
//! of a key. A key that occurs in any other transaction is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::{
    Compare, RequestOp, ResponseOp, TxnRequest, request_op, response_op,
};
use keelson_proto::mvccpb::KeyValue;

use super::wgl::{self, After, Before, Register, Step, Verdict};
use crate::history::{History, Operation, Outcome, Request, Response};

/// Bound on the steps of the search for one key. Valid histories need a few thousand.
const BUDGET: u64 = 2_000_000;

/// Checks every key. Returns the number of decided keys; the error names a key without a valid
/// order.
pub fn check(history: &History) -> Result<usize, String> {
    let mut decided = 0;
    for (key, mut steps) in by_key(history) {
        wgl::settle_unique(&mut steps);
        match wgl::check(&steps, BUDGET) {
            Verdict::Linearizable => decided += 1,
            Verdict::GaveUp => {}
            Verdict::NotLinearizable => {
                return Err(format!(
                    "no order explains the {} operations on key {}",
                    steps.len(),
                    key.escape_ascii()
                ));
            }
        }
    }
    Ok(decided)
}

/// The steps on each key.
pub fn by_key(history: &History) -> BTreeMap<Bytes, Vec<Step>> {
    let mut split = Split::new(history);
    for operation in &history.operations {
        split.add(operation);
    }
    let opaque = split.opaque;
    let mut steps = split.steps;
    steps.retain(|key, _| !opaque.contains(key));
    steps
}

#[derive(Default)]
struct Split {
    steps: BTreeMap<Bytes, Vec<Step>>,
    /// Keys that occur in an unsupported transaction.
    opaque: BTreeSet<Bytes>,
    numbers: HashMap<Bytes, u32>,
}

impl Split {
    /// Collects every key that is ever written.
    fn new(history: &History) -> Split {
        let mut split = Split::default();
        for operation in &history.operations {
            match &operation.request {
                Request::Put(put) => drop(split.steps.entry(put.key.clone()).or_default()),
                Request::Txn(txn) => {
                    for key in keys_of(txn) {
                        split.steps.entry(key.clone()).or_default();
                    }
                }
                _ => {}
            }
        }
        split
    }

    fn add(&mut self, operation: &Operation) {
        if matches!(operation.outcome, Outcome::Refused(_)) {
            return;
        }
        match &operation.request {
            Request::Put(put) => {
                let before = match operation.answer() {
                    Some((Response::Put(response), _)) if put.prev_kv => {
                        Before::Is(self.state(response.prev_kv.as_ref()))
                    }
                    _ => Before::Any,
                };
                let after = After::Become(Some(self.number(&put.value)));
                self.push(operation, &put.key, before, after);
            }
            Request::Range(range) => {
                let Some((Response::Range(response), _)) = operation.answer() else {
                    return;
                };
                if range.serializable || range.revision != 0 || range.count_only || response.more {
                    return;
                }
                for key in self.keys_within(&range.key, &range.range_end) {
                    let kv = response.kvs.iter().find(|kv| kv.key == key);
                    let before = Before::Is(self.state(kv));
                    self.push(operation, &key, before, After::Keep);
                }
            }
            Request::DeleteRange(delete) => {
                for key in self.keys_within(&delete.key, &delete.range_end) {
                    let before = match operation.answer() {
                        Some((Response::DeleteRange(response), _)) if delete.prev_kv => {
                            let kv = response.prev_kvs.iter().find(|kv| kv.key == key);
                            Before::Is(self.state(kv))
                        }
                        Some((Response::DeleteRange(response), _)) if response.deleted == 0 => {
                            Before::Is(None)
                        }
                        _ => Before::Any,
                    };
                    self.push(operation, &key, before, After::Become(None));
                }
            }
            Request::Txn(txn) => match Swap::read(txn) {
                Some(swap) => self.add_swap(operation, &swap),
                None => self.opaque.extend(keys_of(txn).into_iter().cloned()),
            },
            Request::Compact(_) => {}
        }
    }

    fn add_swap(&mut self, operation: &Operation, swap: &Swap<'_>) {
        let from = swap.from.map(|value| self.number(value));
        let to = Some(self.number(swap.to));
        let (before, after) = match operation.answer() {
            Some((Response::Txn(response), _)) if response.succeeded => {
                (Before::Is(from), After::Become(to))
            }
            Some((Response::Txn(response), _)) => {
                let seen = response.responses.first().and_then(first_kv);
                match swap.reads_on_failure {
                    true => (Before::Is(self.state(seen)), After::Keep),
                    false => (Before::Not(from), After::Keep),
                }
            }
            _ => (Before::Any, After::Swap { from, to }),
        };
        self.push(operation, swap.key, before, after);
    }

    fn push(&mut self, operation: &Operation, key: &Bytes, before: Before, after: After) {
        let returned = operation.answer().map(|(_, returned)| returned.number);
        if returned.is_none() && after == After::Keep {
            return;
        }
        let step = Step {
            call: operation.call.number,
            returned,
            before,
            after,
        };
        self.steps.entry(key.clone()).or_default().push(step);
    }

    fn keys_within(&mut self, key: &Bytes, range_end: &Bytes) -> Vec<Bytes> {
        if range_end.is_empty() {
            return vec![key.clone()];
        }
        let everything_after = range_end[..] == [0];
        let within = |known: &&Bytes| key <= *known && (everything_after || *known < range_end);
        self.steps.keys().filter(within).cloned().collect()
    }

    fn state(&mut self, kv: Option<&KeyValue>) -> Register {
        kv.map(|kv| self.number(&kv.value))
    }

    fn number(&mut self, value: &Bytes) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(value.clone()).or_insert(next)
    }
}

/// The supported transaction: if the key has the value `from`, put `to`, else read it.
struct Swap<'a> {
    key: &'a Bytes,
    from: Option<&'a Bytes>,
    to: &'a Bytes,
    reads_on_failure: bool,
}

impl<'a> Swap<'a> {
    fn read(txn: &'a TxnRequest) -> Option<Swap<'a>> {
        let [put] = &txn.success[..] else {
            return None;
        };
        let Some(request_op::Request::RequestPut(put)) = &put.request else {
            return None;
        };
        let reads_on_failure = match &txn.failure[..] {
            [] => false,
            [read] => match &read.request {
                Some(request_op::Request::RequestRange(range)) if range.key == put.key => true,
                _ => return None,
            },
            _ => return None,
        };
        let [compare] = &txn.compare[..] else {
            return None;
        };
        Some(Swap {
            key: &put.key,
            from: compared(compare, &put.key)?,
            to: &put.value,
            reads_on_failure,
        })
    }
}

/// The value that the key must have; `Some(None)` if it must not exist.
fn compared<'a>(compare: &'a Compare, key: &Bytes) -> Option<Option<&'a Bytes>> {
    if compare.key != *key || compare.result() != CompareResult::Equal {
        return None;
    }
    match (compare.target(), compare.target_union.as_ref()?) {
        (CompareTarget::Value, TargetUnion::Value(value)) => Some(Some(value)),
        (CompareTarget::Create, TargetUnion::CreateRevision(0)) => Some(None),
        _ => None,
    }
}

fn keys_of(txn: &TxnRequest) -> Vec<&Bytes> {
    let operations = txn.success.iter().chain(&txn.failure);
    let keys = operations.flat_map(|op: &RequestOp| match op.request.as_ref() {
        Some(request_op::Request::RequestPut(put)) => vec![&put.key],
        Some(request_op::Request::RequestDeleteRange(delete)) => vec![&delete.key],
        Some(request_op::Request::RequestTxn(nested)) => keys_of(nested),
        _ => Vec::new(),
    });
    keys.collect()
}

fn first_kv(op: &ResponseOp) -> Option<&KeyValue> {
    match op.response.as_ref()? {
        response_op::Response::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}
