//! Futures for the readers of the core's `BatchedReads`. A dropped future leaves its batch.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use keelson_core::member::{BatchedReads, ReadTicket};
use keelson_core::node::Input;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::Error;
use crate::member::worker::{MemberExecutor, WorkerEvent};

/// The most readers that may wait at once.
const READERS_MAX: usize = 100_000;

#[derive(Default)]
struct Batches {
    batches: BatchedReads<oneshot::Sender<Result<(), Error>>>,
    /// The member has stopped.
    closed: bool,
}

/// The read batches of a member.
pub(crate) struct ReadBatches {
    /// A blocking mutex: the lock is never held across an await.
    batches: Mutex<Batches>,
    /// The number of readers that wait now.
    count: AtomicUsize,
    executor: Arc<MemberExecutor>,
}

/// A waiting reader. Dropping it leaves the batch.
pub(crate) struct Reader<'a> {
    batches: &'a ReadBatches,
    place: ReadTicket,
    applied: oneshot::Receiver<Result<(), Error>>,
    /// The reader has its answer, so it is no longer in a batch.
    answered: bool,
}

impl Future for Reader<'_> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let applied = ready!(Pin::new(&mut self.applied).poll(cx));
        self.answered = true;
        Poll::Ready(applied.unwrap_or(Err(Error::Stopped)))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.batches.count.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.batches.leave(self.place);
        }
    }
}

impl ReadBatches {
    pub(crate) fn new(executor: Arc<MemberExecutor>) -> ReadBatches {
        ReadBatches {
            batches: Mutex::default(),
            count: AtomicUsize::new(0),
            executor,
        }
    }

    /// Joins the open batch, or opens one. The reader resolves when the state machine has applied
    /// everything that was committed at the time of this call.
    ///
    /// # Errors
    /// `TooManyRequests`; `Stopped`, also from the reader, when the member stops.
    pub(crate) fn join(&self) -> Result<Reader<'_>, Error> {
        let (sender, applied) = oneshot::channel();
        let mut batches = self.batches.lock();
        if batches.closed {
            return Err(Error::Stopped);
        }
        if READERS_MAX <= self.count.load(Ordering::Relaxed) {
            return Err(Error::TooManyRequests);
        }
        // Incremented only under the lock, so that the bound holds.
        self.count.fetch_add(1, Ordering::Relaxed);
        let (place, opens) = batches.batches.join(sender);
        drop(batches);
        let reader = Reader {
            batches: self,
            place,
            applied,
            answered: false,
        };
        if opens {
            let context = place.context;
            let _ = self
                .executor
                .send(WorkerEvent::from(Input::Read { context }));
        }
        Ok(reader)
    }

    /// Consensus takes the batch; no reader can join it after that. Returns whether it has
    /// readers.
    pub(crate) fn close(&self, context: u64) -> bool {
        self.batches.lock().batches.close(context)
    }

    /// The member stops: every reader resolves to `Stopped`.
    pub(crate) fn close_all(&self) {
        let mut batches = self.batches.lock();
        batches.closed = true;
        batches.batches.clear();
    }

    /// The state machine has applied what was committed when the batch was taken, or never will:
    /// its readers resolve.
    pub(crate) fn answer(&self, context: u64, outcome: &Result<(), Error>) {
        let readers = self.batches.lock().batches.answer(context);
        for reader in readers {
            let _ = reader.send(outcome.clone());
        }
    }

    /// A reader was dropped before it saw its answer.
    fn leave(&self, place: ReadTicket) {
        if self.batches.lock().batches.leave(place) {
            let context = place.context;
            // Not urgent: the abandoned batch only occupies memory.
            let given_up = Input::ReadCancelled { context };
            let _ = self.executor.enqueue(WorkerEvent::from(given_up));
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_core::member::ConsensusEvent;

    use super::*;

    fn next(executor: &MemberExecutor) -> Option<(u64, bool)> {
        match executor.next_event()? {
            WorkerEvent::Core(ConsensusEvent::Input(Input::Read { context })) => {
                Some((context, true))
            }
            WorkerEvent::Core(ConsensusEvent::Input(Input::ReadCancelled { context })) => {
                Some((context, false))
            }
            _ => None,
        }
    }

    /// Abandoned batches were kept until there was a leader.
    #[test]
    fn readers_whose_clients_have_left_are_dropped() {
        let executor = MemberExecutor::new();
        let batches = ReadBatches::new(Arc::clone(&executor));
        let (one, two) = (batches.join().unwrap(), batches.join().unwrap());
        assert_eq!(next(&executor), Some((1, true)));
        assert!(batches.close(1));
        drop(one);
        assert_eq!(next(&executor), None, "another one waits");
        drop(two);
        assert_eq!(next(&executor), Some((1, false)));
        // The only reader leaves before consensus takes the batch.
        drop(batches.join().unwrap());
        assert_eq!(next(&executor), Some((2, true)));
        assert!(!batches.close(2), "no read index is needed");
        assert_eq!(batches.count.load(Ordering::Relaxed), 0);
        assert!(batches.batches.lock().batches.is_empty());
    }

    #[test]
    fn readers_are_bounded() {
        let batches = ReadBatches::new(MemberExecutor::new());
        let mut readers: Vec<_> = (0..READERS_MAX).map(|_| batches.join().unwrap()).collect();
        assert!(matches!(batches.join(), Err(Error::TooManyRequests)));
        readers.pop();
        assert!(batches.join().is_ok());
    }

    #[tokio::test]
    async fn a_reader_ends_with_its_batch_or_with_the_member() {
        let batches = ReadBatches::new(MemberExecutor::new());
        let reader = batches.join().unwrap();
        assert!(batches.close(1));
        batches.answer(1, &Ok(()));
        assert!(reader.await.is_ok());
        batches.close(1);
        let reader = batches.join().unwrap();
        batches.close_all();
        assert!(matches!(reader.await, Err(Error::Stopped)));
        // A reader that joined after the stop waited until its timeout.
        assert!(matches!(batches.join(), Err(Error::Stopped)));
    }
}
