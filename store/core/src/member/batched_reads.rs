//! Linearizable reads that arrive together share one question to the leader.
//!
//! A batch is open until consensus takes it: a reader that joins before that is served by an index that is
//! taken after it joined, which is what makes the read linearizable. A reader that gives up takes its place
//! with it: without a leader nothing else would.

use std::collections::BTreeMap;

use slab::Slab;

/// Where a reader waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadTicket {
    /// The batch's, for `Input::Read`.
    pub context: u64,
    slot: usize,
}

/// The batches of one incarnation of a member. `R` is what a reader is answered through.
#[derive(Debug)]
pub struct BatchedReads<R> {
    /// The batch that may still be joined.
    open: Option<(u64, Slab<R>)>,
    /// The context of the newest batch.
    last: u64,
    /// Batches that consensus has taken, until they are answered.
    taken: BTreeMap<u64, Slab<R>>,
}

impl<R> Default for BatchedReads<R> {
    fn default() -> BatchedReads<R> {
        BatchedReads {
            open: None,
            last: 0,
            taken: BTreeMap::new(),
        }
    }
}

impl<R> BatchedReads<R> {
    /// Joins the open batch, or opens one. Returns whether it did the latter: consensus must then be
    /// asked, by `Input::Read`.
    pub fn join(&mut self, reader: R) -> (ReadTicket, bool) {
        let is_new = self.open.is_none();
        self.last += u64::from(is_new);
        let last = self.last;
        let (context, readers) = self.open.get_or_insert_with(|| (last, Slab::new()));
        let place = ReadTicket {
            context: *context,
            slot: readers.insert(reader),
        };
        (place, is_new)
    }

    /// Consensus takes the batch: it cannot be joined any more. Returns whether it has readers; one
    /// without need not be asked for.
    pub fn close(&mut self, context: u64) -> bool {
        if let Some((_, readers)) = self.open.take_if(|(open, _)| *open == context)
            && !readers.is_empty()
        {
            self.taken.insert(context, readers);
        }
        self.taken.contains_key(&context)
    }

    /// The readers of a batch that consensus has taken.
    pub fn readers(&self, context: u64) -> impl Iterator<Item = &R> {
        let readers = self.taken.get(&context).into_iter();
        readers.flat_map(|readers| readers.iter().map(|(_, reader)| reader))
    }

    /// What was committed when the batch was taken is applied: its readers go on.
    pub fn answer(&mut self, context: u64) -> impl Iterator<Item = R> + use<R> {
        let readers = self.taken.remove(&context).into_iter();
        readers.flat_map(|readers| readers.into_iter().map(|(_, reader)| reader))
    }

    /// A reader that was not answered gives up. Returns whether its batch, which consensus has, has no
    /// reader any more: `Input::ReadGivenUp`.
    pub fn leave(&mut self, place: ReadTicket) -> bool {
        if let Some((open, readers)) = &mut self.open
            && *open == place.context
        {
            readers.try_remove(place.slot);
            return false;
        }
        let Some(readers) = self.taken.get_mut(&place.context) else {
            return false;
        };
        readers.try_remove(place.slot);
        let is_empty = readers.is_empty();
        if is_empty {
            self.taken.remove(&place.context);
        }
        is_empty
    }

    /// No reader will be answered any more.
    pub fn clear(&mut self) {
        self.open = None;
        self.taken.clear();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_comes_after_its_batch_was_taken_is_in_another_one() {
        let mut batches = BatchedReads::default();
        let (one, opens) = batches.join("one");
        assert!(opens);
        let (two, opens) = batches.join("two");
        assert!(!opens);
        assert_eq!(one.context, two.context);
        assert!(batches.close(one.context));
        let (three, opens) = batches.join("three");
        assert!(opens && three.context != one.context);
        let answered: Vec<_> = batches.answer(one.context).collect();
        assert_eq!(answered, ["one", "two"]);
        assert_eq!(batches.answer(one.context).count(), 0, "once");
        assert!(!batches.is_empty());
    }

    /// Without a leader they were kept until there was one.
    #[test]
    fn readers_that_have_left_are_forgotten() {
        let mut batches = BatchedReads::default();
        let ((one, _), (two, _)) = (batches.join(1), batches.join(2));
        assert!(batches.close(one.context));
        assert!(!batches.leave(one), "another one waits");
        assert_eq!(batches.readers(one.context).collect::<Vec<_>>(), [&2]);
        assert!(batches.leave(two));
        assert!(batches.is_empty());
        // Before consensus has taken the batch at all.
        let (three, _) = batches.join(3);
        assert!(!batches.leave(three));
        assert!(!batches.close(three.context), "it need not ask");
        assert!(batches.is_empty());
    }
}
