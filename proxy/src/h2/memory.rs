//! Memory budgets for the fields of unanswered requests, for bodies that may have to be sent again,
//! for what continues streams, and for answers that wait for their clients. Field compression lets
//! a client fill memory with few bytes.

use std::sync::atomic::{AtomicUsize, Ordering};

/// For all clients together, in bytes.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// For one connection.
const CLIENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// For waiting answers of one connection: some hundred windows of a member's streams...
const CLIENT_UNREAD_MAX: usize = 32 * 1024 * 1024;
/// ...and for those of all clients together. Each may have one window in any case.
const ALL_UNREAD_MAX: usize = 128 * 1024 * 1024;
const UNREAD_MIN: usize = 128 * 1024;

/// What a request takes in addition to its fields.
pub(super) const REQUEST_BYTES: usize = 512;

/// The bytes that are in use.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget(AtomicUsize);

impl MemoryBudget {
    fn take(&self, bytes: usize, bound: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= bound;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reserves memory for a client's request. Returns whether there is enough.
pub(super) fn take(all: &MemoryBudget, client: &MemoryBudget, bytes: usize) -> bool {
    let fits = client.take(bytes, CLIENT_BYTES_MAX);
    if fits && !all.take(bytes, ALL_BYTES_MAX) {
        client.give_back(bytes);
        return false;
    }
    fits
}

/// Reserves memory for a part of an answer that waits for its client.
pub(super) fn take_unread(all: &MemoryBudget, client: &MemoryBudget, bytes: usize) -> bool {
    let fits = client.take(bytes, CLIENT_UNREAD_MAX);
    let bound = match client.bytes() <= UNREAD_MIN {
        true => usize::MAX,
        false => ALL_UNREAD_MAX,
    };
    if fits && !all.take(bytes, bound) {
        client.give_back(bytes);
        return false;
    }
    fits
}

/// Releases reserved memory.
pub(super) fn give_back(all: &MemoryBudget, client: &MemoryBudget, bytes: usize) {
    client.give_back(bytes);
    all.give_back(bytes);
}
