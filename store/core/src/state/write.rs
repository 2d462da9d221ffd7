//! A transaction being applied: the only place that creates rows and index entries.

use bytes::Bytes;
use keelson_proto::mvccpb::KeyValue;

use super::keys::KeyRange;
use super::revision::RowKey;
use super::rows;
use super::running::RunningHash;
use super::shared::{Memtables, Reads, Shared};

/// A transaction. Readers do not see it until its revision is published.
pub(super) struct Write<'a> {
    shared: &'a Shared,
    memtables: &'a Memtables,
    hash: &'a mut RunningHash,
    /// The revision before the transaction; all its changes get the next one.
    begin: i64,
    /// The number of changes so far, which is the next one's sub revision.
    changes: u32,
}

impl<'a> Write<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        memtables: &'a Memtables,
        hash: &'a mut RunningHash,
    ) -> Write<'a> {
        Write {
            shared,
            memtables,
            hash,
            begin: shared.revision(),
            changes: 0,
        }
    }

    /// The revision after the changes so far.
    pub(super) fn revision(&self) -> i64 {
        self.begin + i64::from(self.changes > 0)
    }

    /// Reads within the transaction, its own changes included.
    pub(super) fn reads(&self) -> Reads<'a> {
        Reads {
            shared: self.shared,
            memtables: self.memtables,
            current: self.revision(),
            compacted: self.shared.compacted(),
        }
    }

    /// Writes a pair.
    pub(super) fn put(&mut self, key: Bytes, value: Bytes, lease: i64) {
        self.shared.counters.put(key.len() + value.len());
        let row = self.next_row(false);
        let stamp = self.shared.index.put(&key, row.main, row.sub);
        self.shared.leases.write().attach(&key, lease);
        let kv = KeyValue {
            key,
            create_revision: stamp.created,
            mod_revision: row.main,
            version: stamp.version,
            value,
            lease,
        };
        let encoded = rows::encode(&kv);
        self.hash.row(row, &encoded);
        self.memtables.active.push(row, encoded);
    }

    /// Deletes the keys of a range and returns their number.
    pub(super) fn delete(&mut self, range: KeyRange<'_>) -> i64 {
        self.shared.counters.delete();
        let mut doomed = Vec::new();
        let now = self.revision();
        self.shared.index.visit(range, now, |key, _| {
            doomed.push(Bytes::copy_from_slice(key));
            true
        });
        let count = doomed.len() as i64;
        for key in doomed {
            let row = self.next_row(true);
            self.shared.index.put_tombstone(&key, row.main, row.sub);
            self.shared.leases.write().detach(&key);
            let encoded = rows::encode_tombstone(key);
            self.hash.row(row, &encoded);
            self.memtables.active.push(row, encoded);
        }
        count
    }

    /// The transaction has had several operations.
    pub(super) fn count_txn(&self) {
        self.shared.counters.txn();
    }

    fn next_row(&mut self, tombstone: bool) -> RowKey {
        let sub = self.changes;
        self.changes += 1;
        RowKey {
            main: self.begin + 1,
            sub,
            tombstone,
        }
    }
}
