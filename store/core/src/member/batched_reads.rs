//! Linearizable reads that arrive together share one read index request.
//!
//! A batch is open until consensus takes it. A reader that joins before that gets an index that is
//! taken after it joined, which makes the read linearizable. A reader that gives up is removed at
//! once: without a leader it would wait indefinitely.

use std::collections::BTreeMap;

use slab::Slab;

/// A reader's position in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadTicket {
    /// The context of the batch, for `Input::Read`.
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
    /// Joins the open batch, or opens one. Returns whether it opened one: the caller must then pass
    /// `Input::Read` to consensus.
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

    /// Closes the batch to further readers, when consensus takes it. Returns whether it has
    /// readers; without any, no read index is needed.
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

    /// Removes and returns the readers of a batch whose index is applied.
    pub fn answer(&mut self, context: u64) -> impl Iterator<Item = R> + use<R> {
        let readers = self.taken.remove(&context).into_iter();
        readers.flat_map(|readers| readers.into_iter().map(|(_, reader)| reader))
    }

    /// Removes a reader without an answer. Returns whether that leaves a batch which consensus has
    /// taken without readers: the caller then passes `Input::ReadCancelled`.
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

    /// Removes all readers.
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

    /// Without a leader they were kept until one was elected.
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
