//! The key index: from keys to the row keys of their versions, in memory, in key order. etcd's
//! `treeIndex`.
//!
//! Keys lie in leaves (`leaf.rs`), and a directory maps the first key of each leaf to it. A lookup
//! touches a few cache lines instead of the fifty of a skip list. How many keys of a leaf exist is
//! in the directory as well (`counted_leaf.rs`): the response to a range has the number of all its
//! keys, be it a page of a million.
//!
//! There is one writer and any number of readers. A leaf's lock is held for that leaf only, and the
//! directory's for reading for a few leaves at a time, so that they do not split meanwhile. The
//! writer waits for a reader only in the same leaf, a microsecond at most, and before a split for
//! some microseconds; readers wait for the writer likewise. Versions of an unfinished transaction
//! may already be in the index: readers use a published revision and skip newer versions.

mod count;

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use parking_lot::RwLock;

use super::counted_leaf::CountedLeaf;
use super::keys::KeyRange;
use super::leaf::Leaf;
use super::revision::RowKey;
use super::versions::{Stamp, Versions};

/// Leaves by their lower bound; that of the first one is the empty key.
type Directory = BTreeMap<Box<[u8]>, CountedLeaf>;

/// The leaves that a reader visits before it lets a split pass. To find its place in the directory
/// again costs as much as to count several leaves.
const LEAVES_AT_ONCE: usize = 16;

/// The index. Only the one writer calls `put`, `put_tombstone`, `restore` and `compact`.
pub(super) struct KeyIndex {
    directory: RwLock<Directory>,
}

impl Default for KeyIndex {
    fn default() -> KeyIndex {
        let first = (Box::default(), CountedLeaf::default());
        KeyIndex {
            directory: RwLock::new(Directory::from([first])),
        }
    }
}

impl KeyIndex {
    /// The row of the key at a revision.
    pub(super) fn at(&self, key: &[u8], revision: i64) -> Option<RowKey> {
        let directory = self.directory.read();
        let leaf = leaf_of(&directory, key).read();
        let at = leaf.find(key).ok()?;
        leaf.from(at)[0].versions.at(revision)
    }

    /// The rows of the key's versions from a revision on, oldest first, tombstones included, and at
    /// most `most` of them.
    pub(super) fn since(&self, key: &[u8], revision: i64, most: usize) -> Vec<RowKey> {
        let directory = self.directory.read();
        let leaf = leaf_of(&directory, key).read();
        match leaf.find(key) {
            Ok(at) => leaf.from(at)[0].versions.since(revision, most),
            Err(_) => Vec::new(),
        }
    }

    /// Visits every key of the range that exists at the revision, in key order, until `see` returns
    /// false. A leaf is locked meanwhile: `see` must be quick and must not call the index.
    pub(super) fn visit(
        &self,
        range: KeyRange<'_>,
        revision: i64,
        mut see: impl FnMut(&[u8], RowKey) -> bool,
    ) {
        if let KeyRange::One(key) = range {
            if let Some(row) = self.at(key, revision) {
                see(key, row);
            }
            return;
        }
        self.each_leaf(range, |leaf, start| {
            for entry in leaf.from(start) {
                if !range.reaches(&entry.key) {
                    return false;
                }
                if let Some(row) = entry.versions.at(revision)
                    && !see(&entry.key, row)
                {
                    return false;
                }
            }
            true
        });
    }

    /// Calls `see` with each leaf of the range and the place where the range begins in it, until
    /// `see` returns false. The leaf is locked meanwhile.
    fn each_leaf(&self, range: KeyRange<'_>, mut see: impl FnMut(&Leaf, usize) -> bool) {
        let Some(first) = range.first() else {
            return;
        };
        let mut from: Box<[u8]> = first.into();
        loop {
            let directory = self.directory.read();
            let leaf = leaf_of(&directory, &from).read();
            let start = leaf.find(&from).unwrap_or_else(|at| at);
            if !see(&leaf, start) {
                return;
            }
            drop(leaf);
            let mut behind = leaves_behind(&directory, &from, range);
            for (_, leaf) in behind.by_ref().take(LEAVES_AT_ONCE - 1) {
                if !see(&leaf.read(), 0) {
                    return;
                }
            }
            match behind.next() {
                Some((begins, _)) => from = begins.clone(),
                None => return,
            }
        }
    }

    /// Adds a version and returns its create revision and version number.
    pub(super) fn put(&self, key: &[u8], main: i64, sub: u32) -> Stamp {
        loop {
            let directory = self.directory.read();
            if let Some(stamp) = leaf_of(&directory, key).put(key, main, sub) {
                return stamp;
            }
            drop(directory);
            self.split(key);
        }
    }

    /// Adds a tombstone, which ends the key's generation.
    pub(super) fn put_tombstone(&self, key: &[u8], main: i64, sub: u32) {
        let directory = self.directory.read();
        leaf_of(&directory, key).put_tombstone(key, main, sub);
    }

    /// Splits the leaf of the key. A key at its end gets a leaf of its own, so that keys inserted
    /// in order fill their leaves.
    fn split(&self, key: &[u8]) {
        let mut directory = self.directory.write();
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, full) = directory
            .range_mut::<[u8], _>(upto)
            .next_back()
            .expect(FIRST_LEAF);
        let fresh = full.split_for(key);
        let begins = fresh.from(0).first().map_or(key, |entry| &entry.key);
        let begins = begins.into();
        directory.insert(begins, CountedLeaf::new(fresh));
    }

    /// Fills an empty index with sorted keys.
    pub(super) fn restore(&self, keys: impl Iterator<Item = (Box<[u8]>, Versions)>) {
        let mut directory = self.directory.write();
        let mut leaf = Leaf::default();
        let mut begins: Box<[u8]> = Box::default();
        for (key, versions) in keys {
            if leaf.is_full() {
                let full = CountedLeaf::new(std::mem::take(&mut leaf));
                directory.insert(std::mem::replace(&mut begins, key.clone()), full);
            }
            leaf.push(key, versions);
        }
        directory.insert(begins, CountedLeaf::new(leaf));
    }

    /// Compacts the keys of the first leaf after `after`, and reports the rows that may be deleted.
    /// Returns the lower bound of that leaf; `None` after the last one.
    pub(super) fn compact(
        &self,
        after: Option<&[u8]>,
        revision: i64,
        mut drop_row: impl FnMut(RowKey),
    ) -> Option<Box<[u8]>> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let directory = self.directory.read();
        let (begins, leaf) = directory
            .range::<[u8], _>((after, Bound::Unbounded))
            .next()?;
        let begins = begins.clone();
        let empty = leaf.compact(|entry| entry.versions.compact(revision, &mut drop_row));
        drop(directory);
        // The first leaf stays: it is the lower bound of all keys.
        if empty && !begins.is_empty() {
            self.directory.write().remove(&begins);
        }
        Some(begins)
    }

    /// The number of keys, including deleted ones that are not compacted yet.
    #[cfg(test)]
    fn len(&self) -> usize {
        let directory = self.directory.read();
        directory.values().map(|leaf| leaf.read().len()).sum()
    }
}

/// The leaf that begins at the empty key is never removed.
const FIRST_LEAF: &str = "the first leaf begins at the empty key";

/// The leaf to which the key belongs.
fn leaf_of<'a>(directory: &'a Directory, key: &[u8]) -> &'a CountedLeaf {
    let mut upto = directory.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
    upto.next_back().expect(FIRST_LEAF).1
}

/// The leaves after that of the key, which is in the range, whose lower bounds the range has.
fn leaves_behind<'a>(
    directory: &'a Directory,
    key: &[u8],
    range: KeyRange<'_>,
) -> btree_map::Range<'a, Box<[u8]>, CountedLeaf> {
    let end = match range {
        KeyRange::Span(_, end) => Bound::Excluded(end),
        KeyRange::One(_) | KeyRange::From(_) => Bound::Unbounded,
    };
    directory.range::<[u8], _>((Bound::Excluded(key), end))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key(number: usize) -> String {
        format!("{number:06}")
    }

    /// The keys at a revision, in order.
    fn keys(index: &KeyIndex, range: KeyRange<'_>, revision: i64) -> Vec<String> {
        let mut keys = Vec::new();
        index.visit(range, revision, |key, _| {
            keys.push(String::from_utf8_lossy(key).into_owned());
            true
        });
        keys
    }

    #[test]
    fn keys_are_found_in_any_insertion_order() {
        let count = 5000;
        for step in [1, 4999, 1777] {
            let index = KeyIndex::default();
            for number in 0..count {
                index.put(key(number * step % count).as_bytes(), 2, 0);
            }
            let expected: Vec<_> = (0..count).map(key).collect();
            assert_eq!(keys(&index, KeyRange::From(b""), 2), expected);
            let (from, to) = (key(1000), key(3000));
            let range = KeyRange::new(from.as_bytes(), to.as_bytes());
            assert_eq!(keys(&index, range, 2), expected[1000..3000]);
            assert_eq!(index.count(range, 2), 2000);
            assert_eq!(index.count(KeyRange::From(b""), 2), count);
            for key in &expected {
                assert!(index.at(key.as_bytes(), 2).is_some());
                assert!(index.at(key.as_bytes(), 1).is_none());
            }
        }
    }

    #[test]
    fn keys_in_order_fill_their_leaves() {
        let index = KeyIndex::default();
        for number in 0..1280 {
            index.put(key(number).as_bytes(), 2, 0);
        }
        assert_eq!(index.directory.read().len(), 10);
    }

    #[test]
    fn a_restored_index_is_the_same() {
        let index = KeyIndex::default();
        let restored = (0..1000).map(|number| {
            let mut versions = Versions::default();
            versions.put(7, 0);
            (key(number).into_bytes().into_boxed_slice(), versions)
        });
        index.restore(restored);
        let expected: Vec<_> = (0..1000).map(key).collect();
        assert_eq!(keys(&index, KeyRange::From(b""), 7), expected);
        assert_eq!(index.put(b"000500", 9, 0).version, 2);
        assert_eq!(index.put(b"0005000", 9, 1).version, 1);
        assert_eq!(index.len(), 1001);
    }

    #[test]
    fn empty_leaves_go_and_keys_can_come_back() {
        let index = KeyIndex::default();
        for number in 0..1000 {
            index.put(key(number).as_bytes(), 2, 0);
        }
        for number in 0..1000 {
            index.put_tombstone(key(number).as_bytes(), 3, 0);
        }
        let mut dropped = 0;
        let mut after = None;
        while let Some(done) = index.compact(after.as_deref(), 4, |_| dropped += 1) {
            after = Some(done);
        }
        assert_eq!((dropped, index.len()), (2000, 0));
        assert_eq!(index.directory.read().len(), 1);
        assert_eq!(index.put(b"000500", 9, 0).created, 9);
        assert_eq!(keys(&index, KeyRange::From(b""), 9), ["000500"]);
    }

    /// A page of a million keys looked at each of them: its response has their number.
    #[test]
    fn leaves_that_have_not_changed_are_counted_as_a_whole() {
        let index = KeyIndex::default();
        for number in 0..1280 {
            index.put(key(number).as_bytes(), 2, 0);
        }
        index.put_tombstone(key(700).as_bytes(), 5, 0);
        let (mut whole, mut others) = (0, 0);
        for leaf in index.directory.read().values() {
            match leaf.count_as_whole(4) {
                Some(128) => whole += 1,
                _ => others += 1,
            }
        }
        assert_eq!((whole, others), (9, 1));
        let all = |revision| index.count(KeyRange::From(b""), revision);
        assert_eq!([1, 2, 4, 5, 9].map(all), [0, 1280, 1280, 1279, 1279]);
    }

    proptest! {
        #[test]
        fn a_count_is_the_number_of_keys_that_a_visit_sees(
            steps in vec((0..400_usize, 0..5_u8), 0..1500),
            probes in vec((0..420_usize, 0..420_usize, 0..1600_i64), 1..20),
        ) {
            let index = KeyIndex::default();
            let mut compacted = 0;
            for (main, (number, kind)) in (2..).zip(&steps) {
                match kind {
                    0 => index.put_tombstone(key(*number).as_bytes(), main, 0),
                    1 if number % 40 == 0 => {
                        compacted = main - 20;
                        let mut after = None;
                        while let Some(done) = index.compact(after.as_deref(), compacted, |_| {}) {
                            after = Some(done);
                        }
                    }
                    _ => drop(index.put(key(*number).as_bytes(), main, 0)),
                }
            }
            for (from, to, revision) in probes {
                let (from, to) = (key(from), key(to));
                let revision = revision.max(compacted);
                for range in [
                    KeyRange::From(b""),
                    KeyRange::new(from.as_bytes(), b""),
                    KeyRange::new(from.as_bytes(), to.as_bytes()),
                ] {
                    let seen = keys(&index, range, revision).len();
                    prop_assert_eq!(index.count(range, revision), seen);
                }
            }
        }
    }
}
