//! A leaf of the key index, and beside it how many of its keys exist: a count of a range reads
//! these numbers in the directory, and not the leaves.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};

use super::keys::KeyRange;
use super::leaf::{Leaf, LeafEntry};
use super::versions::Stamp;

/// A leaf in the directory. Only the one writer changes it.
#[derive(Default)]
pub(super) struct CountedLeaf {
    leaf: Box<RwLock<Leaf>>,
    /// The number of keys whose newest version is no tombstone.
    live: AtomicUsize,
    /// No version is newer than this revision. Written before `live`, and read after it.
    newest: AtomicI64,
}

impl CountedLeaf {
    pub(super) fn new(leaf: Leaf) -> CountedLeaf {
        CountedLeaf {
            live: AtomicUsize::new(leaf.live()),
            newest: AtomicI64::new(leaf.newest()),
            leaf: Box::new(RwLock::new(leaf)),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Leaf> {
        self.leaf.read()
    }

    /// Adds a version of the key. `None` without a change if the key is new and there is no room
    /// for it.
    pub(super) fn put(&self, key: &[u8], main: i64, sub: u32) -> Option<Stamp> {
        self.change(main, |leaf| leaf.put(key, main, sub))
    }

    /// Adds a tombstone of the key.
    pub(super) fn put_tombstone(&self, key: &[u8], main: i64, sub: u32) {
        self.change(main, |leaf| leaf.put_tombstone(key, main, sub));
    }

    fn change<T>(&self, main: i64, change: impl FnOnce(&mut Leaf) -> T) -> T {
        let mut leaf = self.leaf.write();
        self.newest.fetch_max(main, Ordering::Relaxed);
        let changed = change(&mut leaf);
        // A reader that finds this number finds the revision as well.
        self.live.store(leaf.live(), Ordering::Release);
        changed
    }

    /// Splits the leaf: [`Leaf::split_for`].
    pub(super) fn split_for(&mut self, key: &[u8]) -> Leaf {
        let leaf = self.leaf.get_mut();
        let rest = leaf.split_for(key);
        *self.live.get_mut() = leaf.live();
        rest
    }

    /// Keeps the keys for which `keep` returns true: those that a compaction does not remove. The
    /// number of keys that exist does not change. Returns whether the leaf is empty.
    pub(super) fn compact(&self, keep: impl FnMut(&mut LeafEntry) -> bool) -> bool {
        let mut leaf = self.leaf.write();
        leaf.retain(keep);
        leaf.is_empty()
    }

    /// The number of its keys that exist at a revision, unless it has changed since.
    pub(super) fn count_as_whole(&self, revision: i64) -> Option<usize> {
        let live = self.live.load(Ordering::Acquire);
        (self.newest.load(Ordering::Relaxed) <= revision).then_some(live)
    }

    /// The number of its keys that exist at a revision, from `from` to the end of the range.
    pub(super) fn count_part(&self, from: &[u8], range: KeyRange<'_>, revision: i64) -> usize {
        let leaf = self.read();
        let start = leaf.find(from).unwrap_or_else(|at| at);
        let entries = leaf.from(start).iter();
        let reached = entries.take_while(|entry| range.reaches(&entry.key));
        let existing = reached.filter(|entry| entry.versions.at(revision).is_some());
        existing.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: i64 = 100;

    /// The keys are put one by one, and deleted one by one, again and again.
    fn expected(revision: i64) -> usize {
        let within = revision % (2 * KEYS);
        usize::try_from(within.min(2 * KEYS - within)).unwrap()
    }

    fn count(leaf: &CountedLeaf, revision: i64) -> usize {
        let known = leaf.count_as_whole(revision);
        known.unwrap_or_else(|| leaf.count_part(b"", KeyRange::From(b""), revision))
    }

    /// A reader took the number of keys of a later revision for that of its own.
    #[test]
    fn a_count_beside_the_writer_is_that_of_its_revision() {
        let leaf = CountedLeaf::default();
        let published = AtomicI64::new(0);
        let last = 20 * KEYS;
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for main in 1..=last {
                    let (round, number) = ((main - 1) / KEYS, (main - 1) % KEYS);
                    let key = number.to_be_bytes();
                    match round % 2 {
                        0 => drop(leaf.put(&key, main, 0).expect("there is room")),
                        _ => leaf.put_tombstone(&key, main, 0),
                    }
                    published.store(main, Ordering::SeqCst);
                }
            });
            threads.spawn(|| {
                loop {
                    let revision = published.load(Ordering::SeqCst);
                    assert_eq!(count(&leaf, revision), expected(revision), "{revision}");
                    let older = revision / 2;
                    assert_eq!(count(&leaf, older), expected(older), "{older}");
                    if revision == last {
                        break;
                    }
                }
            });
        });
        assert_eq!(leaf.count_as_whole(last), Some(0));
        assert_eq!(leaf.count_as_whole(last - 1), None);
    }
}
