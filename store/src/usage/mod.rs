//! The account of use: which prefixes the clients of this member read and write. `keelson top`
//! shows it.
//!
//! A request costs a lookup in a small table. Of each API a table has at most [`PREFIXES_MAX`]
//! prefixes. When it is full, a new prefix displaces those with the fewest requests, whose counts
//! move to the others. So a stream of new prefixes does not displace the most frequent ones.

mod operations;
pub(crate) mod prefix;
mod sizes;
mod table;

use std::time::Instant;

use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keelson_proto::keelsonpb::{KeySpace, PrefixUse, UsageResponse};
use parking_lot::Mutex;

pub(crate) use operations::TxnUse;
use table::{Sum, Table};

use crate::{Error, Store};

/// Prefixes of each API that are counted by themselves.
const PREFIXES_MAX: usize = 512;

/// A request's part of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
}

impl Use {
    /// A read that has returned so many bytes of keys and values.
    pub(crate) fn read(bytes: usize) -> Use {
        Use {
            reads: 1,
            read_bytes: bytes as u64,
            ..Use::default()
        }
    }

    /// A write of so many bytes.
    pub(crate) fn written(bytes: usize) -> Use {
        Use {
            writes: 1,
            written_bytes: bytes as u64,
            ..Use::default()
        }
    }

    fn of(self, space: KeySpace, prefix: &[u8]) -> PrefixUse {
        PrefixUse {
            space: space.into(),
            prefix: prefix.to_vec().into(),
            reads: self.reads,
            writes: self.writes,
            read_bytes: self.read_bytes,
            written_bytes: self.written_bytes,
            ..PrefixUse::default()
        }
    }
}

impl Sum for Use {
    fn add(&mut self, other: Use) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
    }

    fn weight(&self) -> u64 {
        self.reads + self.writes
    }
}

/// The account of a member since its start.
#[derive(Debug)]
pub(crate) struct Account {
    since: Instant,
    v3: Mutex<Table<Use>>,
    v2: Mutex<Table<Use>>,
}

impl Default for Account {
    fn default() -> Account {
        Account {
            since: Instant::now(),
            v3: Mutex::default(),
            v2: Mutex::default(),
        }
    }
}

impl Account {
    /// Counts a request for a v3 key.
    pub(crate) fn v3(&self, key: &[u8], used: Use) {
        self.v3.lock().add(prefix::of(key), used);
    }

    /// Counts the operations of a transaction.
    fn v3_all(&self, all: &[(Box<[u8]>, Use)]) {
        let mut table = self.v3.lock();
        for (prefix, used) in all {
            table.add(prefix, *used);
        }
    }

    /// Counts a request for a v2 key, by its path in the tree.
    pub(crate) fn v2(&self, path: &[u8], used: Use) {
        self.v2.lock().add(prefix::of(prefix::v2_key(path)), used);
    }

    /// Counts a range.
    pub(crate) fn range(&self, request: &RangeRequest, answer: &RangeResponse) {
        let bytes = answer.kvs.iter().map(|kv| kv.key.len() + kv.value.len());
        self.v3(&request.key, Use::read(bytes.sum()));
    }

    /// What was counted.
    pub(crate) fn read(&self) -> UsageResponse {
        let mut usage = UsageResponse {
            counted_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..UsageResponse::default()
        };
        for (space, table) in [(KeySpace::V3, &self.v3), (KeySpace::V2, &self.v2)] {
            let table = table.lock();
            let sums = table.sums().into_iter();
            let uses = sums.map(|(prefix, used)| used.of(space, prefix));
            usage.prefixes.extend(uses);
            usage.others.push(table.others().of(space, b""));
        }
        usage
    }
}

impl Store {
    /// The use of this member since its start, by prefix. With `sizes` also the number of keys and
    /// their bytes, for which all rows are read.
    ///
    /// # Errors
    /// Permission denied; `TooManyRequests` while others count sizes; those of the engine.
    pub(crate) async fn usage(&self, sizes: bool) -> Result<UsageResponse, Error> {
        use keelson_core::state::auth::{Access, Duty};
        self.view().require_unfenced()?;
        self.authorize_now(Access::Duty(Duty::Monitor)).await?;
        let mut usage = self.inner.account.read();
        if sizes {
            self.count_sizes().await?.merge_into(&mut usage);
            usage.has_sizes = true;
        }
        self.fill(&mut usage.header);
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_prefix_and_api() {
        let account = Account::default();
        account.v3(b"/registry/pods/a", Use::read(10));
        account.v3(b"/registry/pods/b", Use::written(5));
        account.v2(b"/1/deis/builder/users/x", Use::written(7));
        let usage = account.read();
        let expected = [
            Use {
                reads: 1,
                writes: 1,
                read_bytes: 10,
                written_bytes: 5,
            }
            .of(KeySpace::V3, b"/registry/pods/"),
            Use::written(7).of(KeySpace::V2, b"/deis/builder/"),
        ];
        assert_eq!(usage.prefixes, expected);
        assert!(usage.others.iter().all(|others| others.reads == 0));
    }
}
