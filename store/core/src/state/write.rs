//! A transaction being applied: the one place where rows and index entries come into being.

use bytes::Bytes;
use keelson_proto::mvccpb::KeyValue;

use super::keys::KeyRange;
use super::revision::RowKey;
use super::rows;
use super::shared::{Memtables, Reads, Shared};

/// One transaction. Readers see nothing of it until its revision is published.
pub(super) struct Write<'a> {
    shared: &'a Shared,
    memtables: &'a Memtables,
    /// The revision before the transaction; its own changes all get the next one.
    begin: i64,
    /// How many changes so far: the next one's sub revision.
    changes: u32,
}

impl<'a> Write<'a> {
    pub(super) fn new(shared: &'a Shared, memtables: &'a Memtables) -> Write<'a> {
        Write {
            shared,
            memtables,
            begin: shared.revision(),
            changes: 0,
        }
    }

    /// The revision after the changes so far.
    pub(super) fn revision(&self) -> i64 {
        self.begin + i64::from(self.changes > 0)
    }

    /// What the transaction itself sees: its own changes too.
    pub(super) fn reads(&self) -> Reads<'a> {
        Reads {
            shared: self.shared,
            memtables: self.memtables,
            current: self.revision(),
            compacted: self.shared.compacted(),
        }
    }

    /// Stores a pair.
    pub(super) fn put(&mut self, key: Bytes, value: Bytes, lease: i64) {
        let row = self.next_row(false);
        let stamp = self.shared.index.put(&key, row.main, row.sub);
        let kv = KeyValue {
            key,
            create_revision: stamp.created,
            mod_revision: row.main,
            version: stamp.version,
            value,
            lease,
        };
        self.memtables.active.push(row, rows::encode(&kv));
    }

    /// Deletes the keys of a range and says how many there were.
    pub(super) fn delete(&mut self, range: KeyRange<'_>) -> i64 {
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
            self.memtables.active.push(row, rows::encode_tombstone(key));
        }
        count
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
