//! The versions of one key; etcd's `keyIndex`.

use smallvec::SmallVec;

use super::revision::RowKey;

/// The create revision and version that a put gave its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) created: i64,
    pub(super) version: i64,
}

/// The existing versions of one key, oldest first, and the stamp of the newest.
#[derive(Default)]
pub(super) struct Versions {
    /// One inline: most keys are written once between compactions.
    list: SmallVec<[RowKey; 1]>,
    /// The stamp of the newest put of the newest generation.
    newest: Stamp,
}

impl Versions {
    /// The versions as read from the engine.
    pub(super) fn new(list: SmallVec<[RowKey; 1]>, newest: Stamp) -> Versions {
        Versions { list, newest }
    }

    /// The newest version up to a revision, unless that is a tombstone.
    pub(super) fn at(&self, revision: i64) -> Option<RowKey> {
        let newest = self.list.last().filter(|row| row.main <= revision);
        let row = newest.or_else(|| {
            let later = self.list.partition_point(|row| row.main <= revision);
            self.list[..later].last()
        })?;
        (!row.tombstone).then_some(*row)
    }

    /// The newest version, which may be a tombstone.
    pub(super) fn last(&self) -> Option<RowKey> {
        self.list.last().copied()
    }

    /// Whether the newest version is no tombstone.
    pub(super) fn exists(&self) -> bool {
        self.list.last().is_some_and(|row| !row.tombstone)
    }

    /// The versions from a revision on, oldest first and at most `most` of them.
    pub(super) fn since(&self, revision: i64, most: usize) -> Vec<RowKey> {
        let earlier = self.list.partition_point(|row| row.main < revision);
        let later = self.list[earlier..].iter();
        later.take(most).copied().collect()
    }

    /// Adds a version; after a tombstone a new generation begins.
    pub(super) fn put(&mut self, main: i64, sub: u32) -> Stamp {
        let revived = self.list.last().is_none_or(|row| row.tombstone);
        self.newest = match revived {
            true => Stamp {
                created: main,
                version: 1,
            },
            false => Stamp {
                version: self.newest.version + 1,
                ..self.newest
            },
        };
        self.list.push(RowKey {
            main,
            sub,
            tombstone: false,
        });
        self.newest
    }

    /// Adds a tombstone, which ends the generation.
    pub(super) fn put_tombstone(&mut self, main: i64, sub: u32) {
        self.list.push(RowKey {
            main,
            sub,
            tombstone: true,
        });
    }

    /// Removes and reports the versions that a compaction makes unreadable: of the versions up to
    /// the revision only the newest stays. A tombstone stays only at the revision itself, for
    /// watches that begin there (etcd#19179). Returns false when no version is left.
    pub(super) fn compact(&mut self, revision: i64, drop_row: &mut impl FnMut(RowKey)) -> bool {
        let old = self.list.partition_point(|row| row.main <= revision);
        let superseded = match self.list[..old].last() {
            Some(newest) if newest.tombstone && newest.main < revision => old,
            Some(_) => old - 1,
            None => 0,
        };
        if superseded > 0 {
            self.list.drain(..superseded).for_each(drop_row);
            self.list.shrink_to_fit();
        }
        !self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_count_their_own_versions() {
        let mut versions = Versions::default();
        let stamp = |created, version| Stamp { created, version };
        assert_eq!(versions.put(2, 0), stamp(2, 1));
        assert_eq!(versions.put(3, 0), stamp(2, 2));
        versions.put_tombstone(4, 0);
        assert_eq!(versions.put(6, 1), stamp(6, 1));
        let found = |revision| versions.at(revision).map(|row| row.main);
        let expected = [None, None, Some(2), Some(3), None, None, Some(6), Some(6)];
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(found), expected);
    }

    #[test]
    fn a_compaction_keeps_the_newest_unless_it_is_a_tombstone() {
        let compact = |tombstone: bool, revision| {
            let mut versions = Versions::default();
            versions.put(2, 0);
            versions.put(3, 0);
            if tombstone {
                versions.put_tombstone(5, 0);
            }
            let mut dropped = Vec::new();
            let left = versions.compact(revision, &mut |row| dropped.push(row.main));
            (dropped, left)
        };
        assert_eq!(compact(false, 1), (vec![], true));
        assert_eq!(compact(false, 5), (vec![2], true));
        assert_eq!(compact(true, 4), (vec![2], true));
        assert_eq!(compact(true, 5), (vec![2, 3], true));
        assert_eq!(compact(true, 6), (vec![2, 3, 5], false));
    }
}
