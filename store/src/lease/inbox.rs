//! What waits for the lessor: requests of clients, messages of other members, changes of leases.

use std::collections::HashMap;

use keelson_core::MemberId;
use keelson_core::member::{LeaseMessage, LeaseOutcome, LessorEvent};
use keelson_core::state::LeaseChange;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::Error;

/// The most requests of clients that may wait at once.
const WAITING_MAX: usize = 100_000;

/// The most messages of other members that may wait. Each has at most 4,096 leases, and is sent
/// again if it is dropped.
const MESSAGES_MAX: usize = 256;

/// The most changes that may wait; beyond it the lessor compares its leases with the state's.
const CHANGES_MAX: usize = 65_536;

#[derive(Default)]
struct Waiting {
    events: Vec<LessorEvent>,
    messages: usize,
    changes: Vec<LeaseChange>,
    missed: bool,
    /// By the number of the request.
    clients: HashMap<u64, oneshot::Sender<LeaseOutcome>>,
    last_number: u64,
    /// The member has stopped.
    closed: bool,
}

/// Filled by requests, by the peer port and by the applier; emptied by the lessor's task. The lock
/// is held for moments.
pub(crate) struct LessorInbox {
    pub(crate) incarnation: u64,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl LessorInbox {
    pub(crate) fn new(incarnation: u64) -> LessorInbox {
        LessorInbox {
            incarnation,
            waiting: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Adds a client's request. A client that leaves is not waited for: its request ends with its
    /// deadline.
    ///
    /// # Errors
    /// `TooManyRequests`; `Stopped`, to which the receiver resolves as well.
    pub(super) fn request(
        &self,
        id: i64,
        renew: bool,
    ) -> Result<oneshot::Receiver<LeaseOutcome>, Error> {
        let (sender, outcome) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Error::Stopped);
        }
        if WAITING_MAX <= waiting.clients.len() {
            return Err(Error::TooManyRequests);
        }
        waiting.last_number += 1;
        let number = waiting.last_number;
        waiting.clients.insert(number, sender);
        let requested = LessorEvent::Requested { number, id, renew };
        waiting.events.push(requested);
        drop(waiting);
        self.wake.notify_one();
        Ok(outcome)
    }

    /// A message of another member.
    pub(crate) fn receive(&self, from: MemberId, message: LeaseMessage) {
        let mut waiting = self.waiting.lock();
        if waiting.messages < MESSAGES_MAX {
            waiting.messages += 1;
            waiting.events.push(LessorEvent::Peer(from, message));
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Applied entries have changed leases.
    pub(crate) fn note(&self, mut changes: Vec<LeaseChange>) {
        let mut waiting = self.waiting.lock();
        if CHANGES_MAX < waiting.changes.len() + changes.len() {
            waiting.changes.clear();
            waiting.missed = true;
        } else {
            waiting.changes.append(&mut changes);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes what waits. Changes come first: a client may have received the answer to a grant.
    pub(super) fn take(&self) -> Vec<LessorEvent> {
        let mut waiting = self.waiting.lock();
        let mut events = Vec::new();
        if !waiting.changes.is_empty() {
            events.push(LessorEvent::Changed(std::mem::take(&mut waiting.changes)));
        }
        if std::mem::take(&mut waiting.missed) {
            events.push(LessorEvent::Missed);
        }
        waiting.messages = 0;
        events.append(&mut waiting.events);
        events
    }

    /// Resolves when something waits.
    pub(super) async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Answers a client, if it still waits.
    pub(super) fn answer(&self, answers: Vec<(u64, LeaseOutcome)>) {
        let mut waiting = self.waiting.lock();
        for (number, outcome) in answers {
            if let Some(client) = waiting.clients.remove(&number) {
                let _ = client.send(outcome);
            }
        }
    }

    /// The member stops: the receivers of all requests resolve to an error.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        *waiting = Waiting {
            closed: true,
            ..Waiting::default()
        };
    }
}
