//! Seeded v3 operations on a few keys, valid ones and invalid ones: KV here, leases and watches in
//! `sessions`.
//!
//! Two kinds of invalid request are missing, because they end etcd 3.4.23 with a panic: a sort
//! target that does not exist, and a transaction that deletes an open-ended range and then puts a
//! key of that range with `ignore_value` or `ignore_lease` (etcd does not detect the overlap).

mod operation;
mod sessions;

pub use operation::Operation;

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::TargetUnion;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Keys: some are prefixes of others, some sit at the edges of byte order.
const KEYS: [&[u8]; 26] = [
    b"\x00",
    b"\x00\x00",
    b"0",
    b"a",
    b"a\x00",
    b"a/",
    b"a/1",
    b"a/10",
    b"a/2",
    b"a/b/c",
    b"a\xff",
    b"b",
    b"b1",
    b"b2",
    b"b3",
    b"c",
    b"cc",
    b"ccc",
    b"d/\xff",
    b"d/\xff\xff",
    b"key",
    b"key2",
    b"z",
    b"\x7f",
    b"\xff",
    b"\xff\xff",
];

/// A lease that was never granted.
pub(super) const NO_LEASE: i64 = 0x7_0000_0001;

/// Leases that are granted and revoked all the time.
const LEASES: [i64; 4] = [0x1234, 0x1235, 77, i64::MAX];

/// The largest depth of nested transactions.
const DEPTH: usize = 3;

/// Generates operations. The same seed and the same answers give the same operations.
#[derive(Debug)]
pub struct Generator {
    pub(super) rng: ChaCha8Rng,
    /// The store's revision, from the last answers.
    pub revision: i64,
    /// The revision of the last compaction.
    pub compacted: i64,
    /// The ids of the watchers, from the last answers.
    pub watchers: Vec<i64>,
    /// The number of ids of watchers chosen so far: no id is chosen twice.
    watch_ids: i64,
    /// Whether puts of this transaction may ignore values and leases. If so, deletions are not
    /// open-ended.
    ignoring: bool,
}

impl Generator {
    /// A generator for an empty store.
    pub fn new(seed: u64) -> Generator {
        Generator {
            rng: ChaCha8Rng::seed_from_u64(seed),
            revision: 1,
            compacted: -1,
            watchers: Vec::new(),
            watch_ids: 0,
            ignoring: false,
        }
    }

    /// The next operation.
    pub fn operation(&mut self) -> Operation {
        match self.rng.random_range(0..1000) {
            0..300 => Operation::Range(self.range()),
            300..540 => Operation::Put(self.put()),
            540..625 => Operation::Delete(self.delete()),
            625..850 => Operation::Txn(self.txn(0)),
            850..865 => Operation::Compact(self.compact()),
            865..880 => Operation::Hash(self.hash()),
            880..882 => Operation::Put(self.huge()),
            882..942 => self.lease(),
            _ => self.watch(),
        }
    }

    pub(super) fn often(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub(super) fn key(&mut self) -> Bytes {
        if self.rng.random_range(0..150) == 0 {
            return Bytes::new();
        }
        Bytes::from_static(KEYS.choose(&mut self.rng).expect("there are keys"))
    }

    /// The end of a range that begins at `key`: none, open, a prefix's, or any key.
    pub(super) fn end(&mut self, key: &Bytes) -> Bytes {
        match self.rng.random_range(0..10) {
            0..4 => Bytes::new(),
            4 | 5 => Bytes::from_static(b"\0"),
            6 | 7 => prefix_end(key),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.rng.random_range(0..40) {
            0 => Bytes::new(),
            1 => Bytes::from(vec![b'L'; 5_000]),
            2..30 => Bytes::from(self.rng.random_range(0..12).to_string()),
            _ => Bytes::from(format!("unique {}", self.rng.random::<u64>())),
        }
    }

    /// A revision to read at: valid in most cases.
    fn at(&mut self) -> i64 {
        let (low, high) = (self.compacted.max(1), self.revision);
        match self.rng.random_range(0..40) {
            0..24 => 0,
            24..36 => self.rng.random_range(low..=high.max(low)),
            36 => self.compacted,
            37 => self.compacted - 1,
            38 => self.revision + self.rng.random_range(1..3),
            _ => -3,
        }
    }

    /// A bound of a revision filter: none in most cases.
    fn bound(&mut self) -> i64 {
        match self.rng.random_range(0..30) {
            0 => -1,
            1..4 => self.rng.random_range(0..=self.revision),
            _ => 0,
        }
    }

    pub(super) fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let range_end = self.end(&key);
        let limit = match self.rng.random_range(0..20) {
            0..9 => self.rng.random_range(1..8),
            9 => -2,
            10 => i64::MAX,
            _ => 0,
        };
        RangeRequest {
            range_end,
            limit,
            revision: self.at(),
            sort_order: self.rng.random_range(0..3),
            sort_target: if self.often(50) {
                0
            } else {
                self.rng.random_range(0..5)
            },
            serializable: self.often(30),
            keys_only: self.often(15),
            count_only: self.often(10),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
            key,
        }
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let ignore_value = self.often(7);
        let ignore_lease = self.often(7);
        let lease = match self.rng.random_range(0..40) {
            0 => NO_LEASE,
            1..6 => self.some_lease(),
            _ => 0,
        };
        PutRequest {
            key: self.key(),
            // Valid in most cases; sometimes provided and ignored at once, which is an error.
            value: if ignore_value && self.often(85) {
                Bytes::new()
            } else {
                self.value()
            },
            lease: if ignore_lease && self.often(85) {
                0
            } else {
                lease
            },
            prev_kv: self.often(30),
            ignore_value,
            ignore_lease,
        }
    }

    /// Beyond the limit of a request, or of a message.
    fn huge(&mut self) -> PutRequest {
        let bytes = if self.often(50) { 1_600_000 } else { 2_200_000 };
        PutRequest {
            key: self.key(),
            value: Bytes::from(vec![b'H'; bytes]),
            ..Default::default()
        }
    }

    pub(super) fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        // Few keys in most cases: deletions of everything would keep the store empty.
        let range_end = if self.often(70) {
            Bytes::new()
        } else {
            self.end(&key)
        };
        DeleteRangeRequest {
            range_end,
            prev_kv: self.often(40),
            key,
        }
    }

    pub(super) fn txn(&mut self, depth: usize) -> TxnRequest {
        if depth == 0 && self.rng.random_range(0..200) == 0 {
            return self.long_txn();
        }
        if depth == 0 {
            self.ignoring = self.often(50);
        }
        let compares = self.rng.random_range(0..3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.branch(depth),
            failure: self.branch(depth),
        }
    }

    fn branch(&mut self, depth: usize) -> Vec<RequestOp> {
        let operations = self.rng.random_range(0..4);
        (0..operations)
            .map(|_| self.branch_operation(depth))
            .collect()
    }

    fn branch_operation(&mut self, depth: usize) -> RequestOp {
        let request = match self.rng.random_range(0..100) {
            0..30 => Some(Request::RequestRange(self.range())),
            30..65 => Some(Request::RequestPut(self.branch_put())),
            65..82 => Some(Request::RequestDeleteRange(self.branch_delete())),
            82..99 if depth + 1 < DEPTH => Some(Request::RequestTxn(self.txn(depth + 1))),
            // An operation without a kind: etcd has an answer for it.
            99 => None,
            _ => Some(Request::RequestRange(self.range())),
        };
        RequestOp { request }
    }

    fn branch_put(&mut self) -> PutRequest {
        let mut put = self.put();
        put.ignore_value &= self.ignoring;
        put.ignore_lease &= self.ignoring;
        put
    }

    fn branch_delete(&mut self) -> DeleteRangeRequest {
        let mut delete = self.delete();
        if self.ignoring && *delete.range_end == b"\0"[..] {
            delete.range_end.clear();
        }
        delete
    }

    /// About as many operations as a transaction may have.
    fn long_txn(&mut self) -> TxnRequest {
        let operations = self.rng.random_range(126..131);
        let put = |number| PutRequest {
            key: Bytes::from(format!("long/{number}")),
            ..Default::default()
        };
        let request = |number| RequestOp {
            request: Some(Request::RequestPut(put(number))),
        };
        TxnRequest {
            success: (0..operations).map(request).collect(),
            ..Default::default()
        }
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let target = self.rng.random_range(0..5);
        // Sometimes the operand is not the target's.
        let operand = if self.often(95) {
            target
        } else {
            self.rng.random_range(0..6)
        };
        let near = self.rng.random_range(0..=self.revision);
        let target_union = match operand {
            0 => Some(TargetUnion::Version(self.rng.random_range(0..4))),
            1 => Some(TargetUnion::CreateRevision(if self.often(50) {
                0
            } else {
                near
            })),
            2 => Some(TargetUnion::ModRevision(near)),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(match self.often(50) {
                true => 0,
                false => self.some_lease(),
            })),
            _ => None,
        };
        // Unknown results and targets count as equal.
        let (no_result, no_target) = (self.often(1), self.often(1));
        Compare {
            result: if no_result {
                9
            } else {
                self.rng.random_range(0..4)
            },
            target: if no_target { 9 } else { target },
            range_end: if self.often(75) {
                Bytes::new()
            } else {
                self.end(&key)
            },
            key,
            target_union,
        }
    }

    pub(super) fn compact(&mut self) -> CompactionRequest {
        let revision = match self.rng.random_range(0..10) {
            0 => self.revision + 5,
            1 => self.compacted,
            2 => 0,
            3 => -7,
            4 => self.revision,
            // Leaves much of the history readable.
            _ => self.revision - self.rng.random_range(0..60),
        };
        CompactionRequest {
            revision,
            physical: self.often(70),
        }
    }

    fn hash(&mut self) -> HashKvRequest {
        let revision = match self.rng.random_range(0..10) {
            0..4 => 0,
            4 => self.revision + 9,
            5 => self.compacted,
            _ => self
                .rng
                .random_range(self.compacted.max(1)..=self.revision.max(1)),
        };
        HashKvRequest { revision }
    }
}

/// The end of the range of all keys with the prefix, as clients compute it.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(b"\0")
}
