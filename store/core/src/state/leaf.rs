//! A leaf of the key index: up to 128 keys in contiguous memory.
//!
//! Neighbouring keys share a prefix. A leaf stores the length of the common prefix, and the next
//! eight bytes of every key in one small array. A search reads that array and one key, instead of
//! one key per step from scattered allocations.

use super::versions::{Stamp, Versions};

/// The maximum number of keys per leaf.
const LEAF_KEYS: usize = 128;
/// Leaves grow by this number of keys: doubling would waste a quarter of the memory.
const LEAF_GROWTH: usize = 16;

/// A key and its versions.
pub(super) struct LeafEntry {
    pub(super) key: Box<[u8]>,
    pub(super) versions: Versions,
}

/// A sorted list of keys.
#[derive(Default)]
pub(super) struct Leaf {
    entries: Vec<LeafEntry>,
    /// For each key the eight bytes after the common prefix, as a number of the same order.
    heads: Vec<u64>,
    /// The length of the common prefix in bytes, or less.
    common: usize,
    /// The number of keys whose newest version is no tombstone.
    live: usize,
    /// No version is newer than this revision.
    newest: i64,
}

impl Leaf {
    /// The keys from `at` on.
    pub(super) fn from(&self, at: usize) -> &[LeafEntry] {
        &self.entries[at..]
    }

    /// The number of keys whose newest version is no tombstone.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// No version is newer than this revision.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Adds a version of the key. `None` if the key is new and there is no room for it.
    pub(super) fn put(&mut self, key: &[u8], main: i64, sub: u32) -> Option<Stamp> {
        match self.find(key) {
            Ok(at) => {
                let versions = &mut self.entries[at].versions;
                self.live += usize::from(!versions.exists());
                self.newest = self.newest.max(main);
                Some(versions.put(main, sub))
            }
            Err(at) if !self.is_full() => {
                let mut versions = Versions::default();
                let stamp = versions.put(main, sub);
                self.insert(at, key.into(), versions);
                Some(stamp)
            }
            Err(_) => None,
        }
    }

    /// Adds a tombstone of the key, if it is there.
    pub(super) fn put_tombstone(&mut self, key: &[u8], main: i64, sub: u32) {
        if let Ok(at) = self.find(key) {
            let versions = &mut self.entries[at].versions;
            self.live -= usize::from(versions.exists());
            self.newest = self.newest.max(main);
            versions.put_tombstone(main, sub);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= LEAF_KEYS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The position of the key, or as error the position where it belongs.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(first) = self.entries.first() else {
            return Err(0);
        };
        let (begin, rest) = key.split_at(self.common.min(key.len()));
        match begin.cmp(&first.key[..self.common]) {
            std::cmp::Ordering::Less => return Err(0),
            std::cmp::Ordering::Greater => return Err(self.entries.len()),
            std::cmp::Ordering::Equal => {}
        }
        let head = head(rest);
        let from = self.heads.partition_point(|other| *other < head);
        // In most cases at most one key has that head.
        let alike = self.heads[from..].partition_point(|other| *other == head);
        let alike = &self.entries[from..from + alike];
        let found = alike.binary_search_by(|entry| (*entry.key).cmp(key));
        found.map(|at| from + at).map_err(|at| from + at)
    }

    /// Inserts a key at its position.
    pub(super) fn insert(&mut self, at: usize, key: Box<[u8]>, versions: Versions) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(LEAF_GROWTH);
            self.heads.reserve_exact(LEAF_GROWTH);
        }
        let common = match self.entries.first() {
            Some(first) => common(&first.key[..self.common], &key),
            None => key.len(),
        };
        self.live += usize::from(versions.exists());
        self.newest = self.newest.max(versions.last().map_or(0, |row| row.main));
        self.heads.insert(at, head(&key[common..]));
        self.entries.insert(at, LeafEntry { key, versions });
        if common < self.common || self.entries.len() == 1 {
            self.common = common;
            self.rebuild_heads();
        }
    }

    /// Appends a key.
    pub(super) fn push(&mut self, key: Box<[u8]>, versions: Versions) {
        self.insert(self.entries.len(), key, versions);
    }

    /// Makes room for a key: splits half of the leaf off as a new leaf. For a key at the end the
    /// new leaf is empty, so that keys inserted in order fill their leaves.
    pub(super) fn split_for(&mut self, key: &[u8]) -> Leaf {
        match self.entries.last() {
            Some(last) if *last.key < *key => Leaf::default(),
            _ => self.split_off(self.entries.len() / 2),
        }
    }

    fn split_off(&mut self, at: usize) -> Leaf {
        let mut rest = Leaf {
            entries: self.entries.split_off(at),
            newest: self.newest,
            ..Leaf::default()
        };
        self.rebuild();
        rest.rebuild();
        rest
    }

    /// Keeps the keys for which `keep` returns true.
    pub(super) fn retain(&mut self, keep: impl FnMut(&mut LeafEntry) -> bool) {
        let before = self.entries.len();
        self.entries.retain_mut(keep);
        if self.entries.len() < before {
            self.entries.shrink_to(before / 2);
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        self.common = match &self.entries[..] {
            // The prefix that the first and the last key share is common to all.
            [first, .., last] => common(&first.key, &last.key),
            [only] => only.key.len(),
            [] => 0,
        };
        let live = self.entries.iter().filter(|entry| entry.versions.exists());
        self.live = live.count();
        self.rebuild_heads();
    }

    fn rebuild_heads(&mut self) {
        let common = self.common;
        self.heads.clear();
        self.heads.shrink_to(self.entries.capacity());
        let heads = self.entries.iter().map(|entry| head(&entry.key[common..]));
        self.heads.extend(heads);
    }
}

/// The length of the common prefix of two keys, in bytes.
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes. A shorter key is padded with zero bytes, which makes it equal to keys
/// that have them, and never greater than a greater key.
pub(super) fn head(rest: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_takes_little_memory() {
        assert_eq!(size_of::<LeafEntry>() + size_of::<u64>(), 64);
    }

    /// Keys that share prefixes, are prefixes of one another, or end in zero bytes.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let letters = proptest::sample::select(&[0, b'a', b'b', 0xff][..]);
        let begin = proptest::sample::select(&["", "/registry/pods/", "/registry/"][..]);
        (begin, vec(letters, 0..12)).prop_map(|(begin, end)| [begin.as_bytes(), &end].concat())
    }

    fn check(leaf: &Leaf, expected: &[Vec<u8>], probes: &[Vec<u8>]) {
        let keys: Vec<_> = leaf
            .from(0)
            .iter()
            .map(|entry| entry.key.to_vec())
            .collect();
        assert_eq!(keys, expected);
        for probe in probes {
            assert_eq!(leaf.find(probe), expected.binary_search(probe));
        }
    }

    proptest! {
        #[test]
        fn a_leaf_finds_what_a_sorted_list_finds(
            keys in vec(key(), 0..60),
            probes in vec(key(), 0..20),
            at in any::<prop::sample::Index>(),
            keep in any::<u64>(),
        ) {
            let mut leaf = Leaf::default();
            let mut expected = Vec::new();
            for key in keys {
                if let Err(at) = leaf.find(&key) {
                    leaf.insert(at, key.clone().into(), Versions::default());
                    expected.insert(at, key);
                }
                prop_assert!(expected.is_sorted());
            }
            check(&leaf, &expected, &expected);
            check(&leaf, &expected, &probes);
            let at = at.index(expected.len() + 1);
            let rest = leaf.split_off(at);
            let expected_rest = expected.split_off(at);
            check(&rest, &expected_rest, &probes);
            let mut bits = keep;
            leaf.retain(|_| {
                bits = bits.rotate_left(1);
                bits & 1 == 1
            });
            let mut bits = keep;
            expected.retain(|_| {
                bits = bits.rotate_left(1);
                bits & 1 == 1
            });
            check(&leaf, &expected, &probes);
        }

        #[test]
        fn heads_sort_as_keys_do(keys in btree_set(key(), 2)) {
            let heads: Vec<_> = keys.iter().map(|key| head(key)).collect();
            prop_assert!(heads.is_sorted());
        }
    }
}
