//! The key index: key -> where its versions lie, in memory, in key order.
//!
//! One thread writes, any number read. A writer never waits for a reader longer than it takes to
//! look at one key, because each key has its own lock. Versions of an unfinished transaction may be
//! there already: readers ask at a published revision and skip what is newer.

use std::ops::Bound;

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry as Node;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::keys::KeyRange;
use super::revision::RowKey;

/// The versions of one key that are still there, oldest first, and what the next one needs to know.
struct Versions {
    /// One inline: most keys are written once between compactions.
    list: SmallVec<[RowKey; 1]>,
    /// The create revision of the newest generation.
    created: i64,
    /// How many versions the newest generation has had.
    count: i64,
}

impl Versions {
    /// The newest version up to a revision, unless that is a tombstone.
    fn at(&self, revision: i64) -> Option<RowKey> {
        let newest = self.list.last().filter(|row| row.main <= revision);
        let row = newest.or_else(|| {
            let later = self.list.partition_point(|row| row.main <= revision);
            self.list[..later].last()
        })?;
        (!row.tombstone).then_some(*row)
    }

    fn push(&mut self, main: i64, sub: u32) -> Stamp {
        let revived = self.list.last().is_none_or(|row| row.tombstone);
        (self.created, self.count) = match revived {
            true => (main, 1),
            false => (self.created, self.count + 1),
        };
        self.list.push(RowKey {
            main,
            sub,
            tombstone: false,
        });
        Stamp {
            created: self.created,
            version: self.count,
        }
    }
}

/// The create revision and version that a put gave its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) created: i64,
    pub(super) version: i64,
}

type Map = SkipMap<Box<[u8]>, Mutex<Versions>>;

/// The index. `put`, `bury`, `restore` and `compact` are for the one writer.
#[derive(Default)]
pub(super) struct Index {
    // An entry is changed in place: inserting over it would take it out for a moment.
    map: Map,
}

impl Index {
    /// The row that holds the key at that revision.
    pub(super) fn at(&self, key: &[u8], revision: i64) -> Option<RowKey> {
        self.map.get(key)?.value().lock().at(revision)
    }

    /// Shows every key of the range that is there at that revision, in key order, until told to stop.
    pub(super) fn visit(
        &self,
        range: KeyRange<'_>,
        revision: i64,
        mut see: impl FnMut(&[u8], RowKey) -> bool,
    ) {
        let Some(bounds) = range.bounds() else {
            return;
        };
        if let KeyRange::One(key) = range {
            if let Some(row) = self.at(key, revision) {
                see(key, row);
            }
            return;
        }
        for node in self.map.range::<[u8], _>(bounds) {
            let row = node.value().lock().at(revision);
            if let Some(row) = row
                && !see(node.key(), row)
            {
                return;
            }
        }
    }

    /// Adds a version and says what it is the how-manyth of.
    pub(super) fn put(&self, key: &[u8], main: i64, sub: u32) -> Stamp {
        if let Some(node) = self.map.get(key) {
            return node.value().lock().push(main, sub);
        }
        let mut versions = Versions {
            list: SmallVec::new(),
            created: 0,
            count: 0,
        };
        let stamp = versions.push(main, sub);
        self.map.insert(key.into(), Mutex::new(versions));
        stamp
    }

    /// Ends the key's generation.
    pub(super) fn bury(&self, key: &[u8], main: i64, sub: u32) {
        if let Some(node) = self.map.get(key) {
            node.value().lock().list.push(RowKey {
                main,
                sub,
                tombstone: true,
            });
        }
    }

    /// Fills an empty index: keys in order, each with its rows in order and its newest stamp.
    pub(super) fn restore(&self, key: Box<[u8]>, rows: SmallVec<[RowKey; 1]>, newest: Stamp) {
        let versions = Versions {
            list: rows,
            created: newest.created,
            count: newest.version,
        };
        self.map.insert(key, Mutex::new(versions));
    }

    /// Forgets what a compaction makes unreadable, for at most `limit` keys after `after`: of the
    /// versions up to `revision` only the newest stays, unless it is a tombstone. Reports the rows
    /// that may be deleted and answers the last key seen, or `None` at the end of the index.
    pub(super) fn compact(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        revision: i64,
        mut drop_row: impl FnMut(RowKey),
    ) -> Option<Box<[u8]>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut seen = 0;
        for node in self.map.range::<[u8], _>((from, Bound::Unbounded)) {
            self.compact_key(&node, revision, &mut drop_row);
            seen += 1;
            if seen == limit {
                return Some(node.key().clone());
            }
        }
        None
    }

    fn compact_key(
        &self,
        node: &Node<'_, Box<[u8]>, Mutex<Versions>>,
        revision: i64,
        drop_row: &mut impl FnMut(RowKey),
    ) {
        let mut versions = node.value().lock();
        let superseded = superseded(&versions.list, revision);
        if superseded == 0 {
            return;
        }
        versions.list.drain(..superseded).for_each(drop_row);
        versions.list.shrink_to_fit();
        if versions.list.is_empty() {
            drop(versions);
            node.remove();
        }
    }

    /// How many keys there are, dead ones that no compaction has reached included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }
}

/// How many of these versions a compaction at that revision takes.
fn superseded(list: &[RowKey], revision: i64) -> usize {
    let old = list.partition_point(|row| row.main <= revision);
    match list[..old].last() {
        Some(newest) if newest.tombstone => old,
        Some(_) => old - 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_takes_little_memory() {
        assert_eq!(size_of::<Mutex<Versions>>(), 48);
    }

    #[test]
    fn generations_count_their_own_versions() {
        let index = Index::default();
        let stamp = |created, version| Stamp { created, version };
        assert_eq!(index.put(b"a", 2, 0), stamp(2, 1));
        assert_eq!(index.put(b"a", 3, 0), stamp(2, 2));
        index.bury(b"a", 4, 0);
        assert_eq!(index.put(b"a", 6, 1), stamp(6, 1));
        let found = |revision| index.at(b"a", revision).map(|row| row.main);
        let expected = [None, None, Some(2), Some(3), None, None, Some(6), Some(6)];
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(found), expected);
    }

    #[test]
    fn a_compaction_keeps_the_newest_unless_it_is_a_tombstone() {
        let index = Index::default();
        index.put(b"a", 2, 0);
        index.put(b"a", 3, 0);
        index.put(b"b", 4, 0);
        index.bury(b"b", 5, 0);
        index.put(b"c", 9, 0);
        let mut dropped = Vec::new();
        assert_eq!(
            index.compact(None, 10, 5, |row| dropped.push(row.main)),
            None
        );
        assert_eq!(dropped, [2, 4, 5]);
        assert_eq!(index.len(), 2);
    }
}
