//! Linearizable reads that wait until the state machine has applied their index.
//!
//! A member that is behind, for example while it receives a snapshot, gets the index of a read long
//! before the entries up to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Index;
use crate::node::ReadReady;

/// Waiting reads, ordered by index.
#[derive(Debug, Default)]
pub(super) struct AppliedReads {
    waiting: BTreeSet<(Index, u64)>,
    index_of: BTreeMap<u64, Index>,
}

impl AppliedReads {
    /// Adds a read, until its index is applied or its clients have left.
    pub(super) fn add(&mut self, ReadReady { context, index }: ReadReady) {
        self.waiting.insert((index, context));
        self.index_of.insert(context, index);
    }

    /// Removes a read whose clients have left; unknown contexts are ignored.
    pub(super) fn cancel(&mut self, context: u64) {
        if let Some(index) = self.index_of.remove(&context) {
            self.waiting.remove(&(index, context));
        }
    }

    /// Moves the contexts of reads at or below the applied index to `done`, in index order.
    pub(super) fn release(&mut self, applied: Index, done: &mut Vec<u64>) {
        while let Some((index, context)) = self.waiting.first().copied()
            && index <= applied
        {
            self.waiting.pop_first();
            self.index_of.remove(&context);
            done.push(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(context: u64, index: u64) -> ReadReady {
        ReadReady {
            context,
            index: Index(index),
        }
    }

    fn released(reads: &mut AppliedReads, applied: u64) -> Vec<u64> {
        let mut done = Vec::new();
        reads.release(Index(applied), &mut done);
        done
    }

    #[test]
    fn reads_wait_for_their_index() {
        let mut reads = AppliedReads::default();
        for (context, index) in [(1, 7), (2, 5), (3, 7), (4, 9)] {
            reads.add(read(context, index));
        }
        assert!(released(&mut reads, 4).is_empty());
        assert_eq!(released(&mut reads, 7), [2, 1, 3]);
        assert_eq!(released(&mut reads, 9), [4]);
    }

    /// A lagging member kept each of them until it had caught up.
    #[test]
    fn reads_whose_clients_have_left_do_not_gather_while_the_member_is_behind() {
        let mut reads = AppliedReads::default();
        reads.add(read(1, 7));
        for context in 2..1_000 {
            reads.add(read(context, 10 + context % 3));
            reads.cancel(context);
        }
        reads.cancel(5_000);
        assert_eq!((reads.waiting.len(), reads.index_of.len()), (1, 1));
        assert_eq!(released(&mut reads, 100_000), [1]);
        assert!(reads.waiting.is_empty() && reads.index_of.is_empty());
    }
}
