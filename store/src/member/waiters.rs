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

type Shard = Mutex<HashMap<u64, oneshot::Sender<Outcome>>>;

/// The requests of this member's clients that are under way.
pub(crate) struct Waiters {
    member: MemberId,
    boot: u64,
    counter: AtomicU64,
    count: AtomicUsize,
    shards: [Shard; SHARDS],
}

impl Waiters {
    pub(crate) fn new(member: MemberId, boot: u64) -> Waiters {
        Waiters {
            member,
            boot,
            counter: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }

    /// A name for a new request and the place where its outcome will arrive; nothing when too many
    /// wait already.
    pub(crate) fn add(&self) -> Option<(ProposalId, oneshot::Receiver<Outcome>)> {
        if WAITING_MAX <= self.count.load(Ordering::Relaxed) {
            return None;
        }
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        self.shard(counter).lock().insert(counter, sender);
        self.count.fetch_add(1, Ordering::Relaxed);
        let id = ProposalId {
            member: self.member,
            boot: self.boot,
            counter,
        };
        Some((id, receiver))
    }

    /// Whether that request is of this life of this member.
    pub(crate) fn is_mine(&self, id: ProposalId) -> bool {
        id.member == self.member && id.boot == self.boot
    }

    /// Tells the waiter, if it still waits.
    pub(crate) fn settle(&self, id: ProposalId, outcome: Outcome) {
        if let Some(sender) = self.remove(id.counter) {
            // A client that went away has no use for the outcome.
            let _ = sender.send(outcome);
        }
    }

    /// The client no longer waits; the request may still happen.
    pub(crate) fn forget(&self, id: ProposalId) {
        self.remove(id.counter);
    }

    /// The member stops: nobody will be told any more.
    pub(crate) fn close_all(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    fn remove(&self, counter: u64) -> Option<oneshot::Sender<Outcome>> {
        let removed = self.shard(counter).lock().remove(&counter);
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    fn shard(&self, counter: u64) -> &Shard {
        &self.shards[counter as usize % SHARDS]
    }
}

/// Whose request a committed entry was.
pub(crate) fn request_of(committed: &keelson_core::Committed) -> Option<ProposalId> {
    match &committed.conf {
        Some(conf) => Some(conf.id),
        None => keelson_core::proposal::decode(&committed.entry.data).map(|(id, _)| id),
    }
}
