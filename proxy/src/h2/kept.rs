//! Bytes that are kept of requests until they are answered: their fields, and bodies that may have
//! to be sent again. Compression makes a byte of them out of nearly nothing, so they are counted.
//! The same of answers that wait until their clients read.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Of all clients together.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Of one connection.
const CLIENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Of answers that wait, to one connection: some hundred windows of a member's streams...
const CLIENT_UNREAD_MAX: usize = 32 * 1024 * 1024;
/// ...and to all clients together, but that each may have one window's.
const ALL_UNREAD_MAX: usize = 128 * 1024 * 1024;
const UNREAD_MIN: usize = 128 * 1024;

/// What a request takes besides.
pub(super) const REQUEST_BYTES: usize = 512;

/// How much is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept(AtomicUsize);

impl Kept {
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

/// Takes room for a client's request. Returns whether there was any.
pub(super) fn take(all: &Kept, client: &Kept, bytes: usize) -> bool {
    let fits = client.take(bytes, CLIENT_BYTES_MAX);
    if fits && !all.take(bytes, ALL_BYTES_MAX) {
        client.give_back(bytes);
        return false;
    }
    fits
}

/// The same for some of an answer that its client does not read for now.
pub(super) fn take_unread(all: &Kept, client: &Kept, bytes: usize) -> bool {
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

/// Gives room back that was taken.
pub(super) fn give_back(all: &Kept, client: &Kept, bytes: usize) {
    client.give_back(bytes);
    all.give_back(bytes);
}
