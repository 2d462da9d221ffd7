//! Linearizable reads that arrive together share one question to the leader.
//!
//! A batch is open until the driver takes it: a reader that joins before that is served by an index
//! that is taken after it joined, which is what makes the read linearizable. A reader that gives up, or
//! whose client has left, takes its place with it: without a leader nothing else would.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use keelson_core::node::Input;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::Error;
use crate::member::driver::Event;
use crate::member::turns::Turns;

/// Readers that wait at once.
const READERS_MAX: usize = 100_000;

#[derive(Default)]
struct Batches {
    /// The batch that may still be joined.
    open: Option<u64>,
    last: u64,
    /// Readers of all time.
    joined: u64,
    /// Readers that wait now, also those whose index is known.
    count: usize,
    readers: HashMap<u64, Readers>,
    /// The member has stopped.
    closed: bool,
}

/// By their numbers.
type Readers = BTreeMap<u64, oneshot::Sender<()>>;

/// The batches of a member.
pub(crate) struct ReadBatches {
    /// A plain mutex: nothing is awaited inside.
    batches: Mutex<Batches>,
    turns: Arc<Turns>,
}

/// A reader that waits; dropping it gives up its place.
pub(crate) struct Reader<'a> {
    batches: &'a ReadBatches,
    context: u64,
    number: u64,
    applied: oneshot::Receiver<()>,
}

impl Future for Reader<'_> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let applied = ready!(Pin::new(&mut self.applied).poll(cx));
        Poll::Ready(applied.map_err(|_| Error::Stopped))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.batches.leave(self.context, self.number);
    }
}

impl ReadBatches {
    pub(crate) fn new(turns: Arc<Turns>) -> ReadBatches {
        ReadBatches {
            batches: Mutex::default(),
            turns,
        }
    }

    /// Joins the open batch, or opens one. The reader is ready when the state machine has applied
    /// what was committed when this was called.
    ///
    /// # Errors
    /// `TooManyRequests`; `Stopped`, also from the reader, if the member stops.
    pub(crate) fn join(&self) -> Result<Reader<'_>, Error> {
        let (sender, applied) = oneshot::channel();
        let mut batches = self.batches.lock();
        if batches.closed {
            return Err(Error::Stopped);
        }
        if READERS_MAX <= batches.count {
            return Err(Error::TooManyRequests);
        }
        batches.count += 1;
        batches.joined += 1;
        let number = batches.joined;
        let (context, is_new) = match batches.open {
            Some(open) => (open, false),
            None => (batches.last + 1, true),
        };
        batches.last = context;
        batches.open = Some(context);
        batches
            .readers
            .entry(context)
            .or_default()
            .insert(number, sender);
        drop(batches);
        if is_new {
            let _ = self.turns.send(Event::Input(Input::Read { context }));
        }
        Ok(Reader {
            batches: self,
            context,
            number,
            applied,
        })
    }

    /// The driver takes the batch: it cannot be joined any more. Returns whether it has readers.
    pub(crate) fn close(&self, context: u64) -> bool {
        let mut batches = self.batches.lock();
        if batches.open == Some(context) {
            batches.open = None;
        }
        let has_readers = |readers: &Readers| !readers.is_empty();
        let waits = batches.readers.get(&context).is_some_and(has_readers);
        if !waits {
            batches.readers.remove(&context);
        }
        waits
    }

    /// The member stops: no reader will be answered any more.
    pub(crate) fn close_all(&self) {
        let mut batches = self.batches.lock();
        batches.closed = true;
        batches.readers.clear();
    }

    /// The readers of a batch whose index is known.
    pub(crate) fn take(&self, context: u64) -> Vec<oneshot::Sender<()>> {
        let readers = self.batches.lock().readers.remove(&context);
        readers.unwrap_or_default().into_values().collect()
    }

    /// A reader has its answer, or does not wait for it any longer.
    fn leave(&self, context: u64, number: u64) {
        let mut batches = self.batches.lock();
        batches.count -= 1;
        let is_open = batches.open == Some(context);
        let Some(readers) = batches.readers.get_mut(&context) else {
            return;
        };
        readers.remove(&number);
        if readers.is_empty() && !is_open {
            batches.readers.remove(&context);
            drop(batches);
            // Not urgent: it only takes room.
            let given_up = Input::ReadGivenUp { context };
            let _ = self.turns.leave(Event::Input(given_up));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(turns: &Turns) -> Option<(u64, bool)> {
        match turns.next_event()? {
            Event::Input(Input::Read { context }) => Some((context, true)),
            Event::Input(Input::ReadGivenUp { context }) => Some((context, false)),
            _ => None,
        }
    }

    /// Without a leader they were kept until there was one.
    #[test]
    fn readers_whose_clients_have_left_are_forgotten() {
        let turns = Turns::new();
        let batches = ReadBatches::new(Arc::clone(&turns));
        let (one, two) = (batches.join().unwrap(), batches.join().unwrap());
        assert_eq!(next(&turns), Some((1, true)));
        assert!(batches.close(1));
        drop(one);
        assert_eq!(next(&turns), None, "another one waits");
        drop(two);
        assert_eq!(next(&turns), Some((1, false)));
        // Before the driver has taken the batch at all.
        drop(batches.join().unwrap());
        assert_eq!(next(&turns), Some((2, true)));
        assert!(!batches.close(2), "it need not ask");
        let batches = batches.batches.lock();
        assert_eq!((batches.count, batches.readers.len()), (0, 0));
    }

    #[test]
    fn readers_are_bounded() {
        let batches = ReadBatches::new(Turns::new());
        let mut readers: Vec<_> = (0..READERS_MAX).map(|_| batches.join().unwrap()).collect();
        assert!(matches!(batches.join(), Err(Error::TooManyRequests)));
        readers.pop();
        assert!(batches.join().is_ok());
    }

    #[tokio::test]
    async fn a_reader_hears_of_its_batch_or_of_the_end() {
        let batches = ReadBatches::new(Turns::new());
        let reader = batches.join().unwrap();
        for applied in batches.take(1) {
            applied.send(()).unwrap();
        }
        assert!(reader.await.is_ok());
        batches.close(1);
        let reader = batches.join().unwrap();
        batches.close_all();
        assert!(matches!(reader.await, Err(Error::Stopped)));
        // One that comes later waited until it gave up.
        assert!(matches!(batches.join(), Err(Error::Stopped)));
    }
}
