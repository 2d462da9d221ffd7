//! The requests that wait for the outcome of their proposals.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use keelson_core::node::Refusal;
use keelson_core::state::{self, Response};
use keelson_core::{MemberId, ProposalId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::edge::account::{Ledger, Share, client};

/// The outcome of a request, as far as this member can determine it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The request was applied, with this result.
    Applied(Result<Response, state::Error>),
    /// The request is certainly not in the log.
    Refused(Refusal),
}

/// The number of shards of the map: threads contend less for its locks.
const SHARDS: usize = 16;
/// The most requests that may wait at once. A waiting client costs far more than its entry here.
const WAITING_MAX: usize = 100_000;
/// The size limit of their commands together, in bytes: as much as the core allows to be
/// uncommitted.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Commands of this size or more are on their client's account as well, in bytes. Smaller ones are
/// bounded by the number of a client's calls in work.
const ACCOUNTED_MIN: usize = 4 << 10;
/// Larger commands are on no account: it might not have room for one.
const ACCOUNTED_MAX: usize = WAITING_BYTES_MAX / 8;

type Shard = Mutex<HashMap<u64, oneshot::Sender<Outcome>>>;

/// The requests in flight of this member's clients.
pub(crate) struct Waiters {
    member: MemberId,
    incarnation: u64,
    counter: AtomicU64,
    count: AtomicUsize,
    bytes: AtomicUsize,
    /// The large commands, with a part for each client.
    accounts: Arc<Ledger>,
    shards: [Shard; SHARDS],
}

impl Waiters {
    pub(crate) fn new(member: MemberId, incarnation: u64) -> Waiters {
        Waiters {
            member,
            incarnation,
            counter: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            accounts: Ledger::fair((WAITING_BYTES_MAX / 1024) as u32),
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }

    /// Reserves memory for a command of that size, in bytes; `None` if too much waits already. A
    /// request always fits when no other waits. The large ones of one client have at most half of
    /// what they leave free: others' still fit.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reserved<'_>> {
        let client = match bytes {
            ACCOUNTED_MIN..ACCOUNTED_MAX => client(),
            _ => None,
        };
        let share = match client {
            Some(_) => Some(self.accounts.take(client, (bytes / 1024) as u32)?),
            None => None,
        };
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Reserved {
            waiters: self,
            bytes,
            _share: share,
        };
        let fits = before == 0 || before + bytes <= WAITING_BYTES_MAX;
        (fits && count < WAITING_MAX).then_some(reserved)
    }

    /// A new proposal id, and the receiver of its outcome.
    pub(crate) fn add(&self) -> (ProposalId, oneshot::Receiver<Outcome>) {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        self.shard(counter).lock().insert(counter, sender);
        let id = ProposalId {
            member: self.member,
            incarnation: self.incarnation,
            counter,
        };
        (id, receiver)
    }

    /// Sends the outcome to the request, if it still waits.
    pub(crate) fn settle(&self, id: ProposalId, outcome: Outcome) {
        if let Some(sender) = self.remove(id.counter) {
            // The receiver of a disconnected client is dropped.
            let _ = sender.send(outcome);
        }
    }

    /// Removes a request whose client has disconnected; the command may still be applied. Returns
    /// whether it had no outcome.
    pub(crate) fn forget(&self, id: ProposalId) -> bool {
        self.remove(id.counter).is_some()
    }

    /// The number of requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The member stops: the receivers of all requests resolve to an error.
    pub(crate) fn close_all(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// The number of attempts since the start.
    #[cfg(test)]
    pub(crate) fn attempts(&self) -> u64 {
        self.counter.load(Ordering::Relaxed)
    }

    /// The reserved bytes.
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

/// Reserved memory, until it is dropped.
pub(crate) struct Reserved<'a> {
    waiters: &'a Waiters,
    bytes: usize,
    _share: Option<Share>,
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
    use crate::edge::account::on_behalf_of;

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

    /// Large puts of one client left no room for the others.
    #[test]
    fn large_commands_of_one_client_leave_room_for_others() {
        let waiters = Waiters::new(MemberId(1), 1);
        let of = |port| {
            let client = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            on_behalf_of(client, || waiters.reserve(1 << 20))
        };
        let crowd: Vec<_> = std::iter::from_fn(|| of(1)).collect();
        assert_eq!(crowd.len(), 21, "a third");
        assert!(of(2).is_some());
        drop(crowd);
        assert!(of(1).is_some());
    }
}
