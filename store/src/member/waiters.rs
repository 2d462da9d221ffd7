//! Who waits for which request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use keelson_core::node::Refusal;
use keelson_core::state::{self, Response};
use keelson_core::{MemberId, ProposalId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How a request ended, as far as this member can know.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was applied, and this came out.
    Applied(Result<Response, state::Error>),
    /// It is surely not in the log.
    Refused(Refusal),
}

/// Shards keep the requests of many threads out of each other's way.
const SHARDS: usize = 16;
/// Requests that wait at once. A client that waits costs far more than its entry here.
const WAITING_MAX: usize = 100_000;
/// What their commands may weigh together, in bytes: as much as the core lets wait for a commit.
const WAITING_BYTES_MAX: usize = 64 << 20;

type Shard = Mutex<HashMap<u64, oneshot::Sender<Outcome>>>;

/// The requests of this member's clients that are under way.
pub(crate) struct Waiters {
    member: MemberId,
    boot: u64,
    counter: AtomicU64,
    count: AtomicUsize,
    bytes: AtomicUsize,
    shards: [Shard; SHARDS],
}

impl Waiters {
    pub(crate) fn new(member: MemberId, boot: u64) -> Waiters {
        Waiters {
            member,
            boot,
            counter: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }

    /// Room for a request whose command weighs that much; nothing when too much waits already. A
    /// request that finds nothing waiting always has room.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reserved<'_>> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Reserved {
            waiters: self,
            bytes,
        };
        let fits = before == 0 || before + bytes <= WAITING_BYTES_MAX;
        (fits && count < WAITING_MAX).then_some(reserved)
    }

    /// A name for a new attempt at a request, and the place where its outcome will arrive.
    pub(crate) fn add(&self) -> (ProposalId, oneshot::Receiver<Outcome>) {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        self.shard(counter).lock().insert(counter, sender);
        let id = ProposalId {
            member: self.member,
            boot: self.boot,
            counter,
        };
        (id, receiver)
    }

    /// Tells the waiter, if it still waits.
    pub(crate) fn settle(&self, id: ProposalId, outcome: Outcome) {
        if let Some(sender) = self.remove(id.counter) {
            // A client that went away has no use for the outcome.
            let _ = sender.send(outcome);
        }
    }

    /// The client no longer waits; the request may still happen. Returns whether it had no outcome.
    pub(crate) fn forget(&self, id: ProposalId) -> bool {
        self.remove(id.counter).is_some()
    }

    /// The member stops: nobody will be told any more.
    pub(crate) fn close_all(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// How many attempts there have been.
    #[cfg(test)]
    pub(crate) fn attempts(&self) -> u64 {
        self.counter.load(Ordering::Relaxed)
    }

    /// What the requests that wait weigh.
    #[cfg(test)]
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn remove(&self, counter: u64) -> Option<oneshot::Sender<Outcome>> {
        self.shard(counter).lock().remove(&counter)
    }

    fn shard(&self, counter: u64) -> &Shard {
        &self.shards[counter as usize % SHARDS]
    }
}

/// Room for a request, until it is dropped.
pub(crate) struct Reserved<'a> {
    waiters: &'a Waiters,
    bytes: usize,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.waiters.count.fetch_sub(1, Ordering::Relaxed);
        self.waiters.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_wait_are_bounded_in_bytes() {
        let waiters = Waiters::new(MemberId(1), 1);
        let large = 1 << 20;
        let mut waiting: Vec<_> = (0..64).filter_map(|_| waiters.reserve(large)).collect();
        assert_eq!(waiting.len(), 64);
        assert!(waiters.reserve(1).is_none());
        waiting.pop();
        assert!(waiters.reserve(large).is_some());
        waiting.clear();
        let alone = waiters.reserve(WAITING_BYTES_MAX + 1);
        assert!(alone.is_some(), "one request always has room");
    }
}
