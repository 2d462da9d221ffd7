//! Linearizable reads that wait for the state machine to reach their index.
//!
//! A member that is behind, while a snapshot is under way to it perhaps, gets the index of a read long
//! before the entries up to it. Clients leave meanwhile, and what they leave behind must not gather.

use std::collections::BTreeMap;

use keelson_core::Index;
use tokio::sync::oneshot;

/// Readers that may wait before those that have left are looked for.
const SWEEP_MIN: usize = 1024;

/// The readers, by the index they wait for.
#[derive(Default)]
pub(crate) struct AppliedReads {
    by_index: BTreeMap<Index, Vec<oneshot::Sender<()>>>,
    count: usize,
    /// How many were left after the last sweep.
    swept: usize,
}

impl AppliedReads {
    /// These wait for that index.
    pub(crate) fn add(&mut self, index: Index, readers: Vec<oneshot::Sender<()>>) {
        self.count += readers.len();
        self.by_index.entry(index).or_default().extend(readers);
        // At twice the number a sweep costs each reader a look or two, however long it waits.
        if SWEEP_MIN.max(2 * self.swept) < self.count {
            self.sweep();
        }
    }

    /// That index is applied: its readers, and those of earlier ones, go on.
    pub(crate) fn release(&mut self, applied: Index) {
        while let Some(first) = self.by_index.first_entry()
            && *first.key() <= applied
        {
            let readers = first.remove();
            self.count -= readers.len();
            for reader in readers {
                let _ = reader.send(());
            }
        }
    }

    fn sweep(&mut self) {
        self.by_index.retain(|_, readers| {
            readers.retain(|reader| !reader.is_closed());
            !readers.is_empty()
        });
        self.count = self.by_index.values().map(Vec::len).sum();
        self.swept = self.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that was behind kept each of them until it had caught up.
    #[test]
    fn readers_that_have_left_do_not_gather_while_the_member_is_behind() {
        let mut reads = AppliedReads::default();
        let (stays, mut staying) = oneshot::channel();
        reads.add(Index(7), vec![stays]);
        for index in 0..20_000 {
            let (leaves, _) = oneshot::channel();
            reads.add(Index(10 + index), vec![leaves]);
        }
        assert!(reads.count <= SWEEP_MIN, "{} readers wait", reads.count);
        assert!(reads.by_index.len() <= SWEEP_MIN);
        assert!(staying.try_recv().is_err());
        reads.release(Index(7));
        assert_eq!(staying.try_recv(), Ok(()));
        reads.release(Index(100_000));
        assert_eq!((reads.count, reads.by_index.len()), (0, 0));
    }
}
