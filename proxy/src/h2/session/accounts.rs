//! Whose small frames they are: what a member's connection bears of them is divided between its
//! clients.
//!
//! Each client may have a part of what is left, so that however many take all that they may,
//! something is left for the next one; the first small frame of a client without any has room of
//! its own besides. A charge that is lost with its stream stays in the client's account until the
//! client has no stream here. By then the connection takes no new ones if much is lost.

use std::collections::{BTreeSet, HashMap};

use super::Stream;
use super::pieces::SMALL_BYTES;

/// In bytes, what small frames may cost a connection, but for the first ones of clients...
pub(super) const SHARED_MAX: u32 = 384 * 1024;
/// ...and with those.
const ALL_MAX: u32 = 448 * 1024;

/// A client may be charged with one part in so many of what is left.
const PARTS: u32 = 8;

const SMALL: u32 = SMALL_BYTES as u32;

/// What is charged to a connection, by client.
#[derive(Default)]
pub(super) struct Accounts {
    charged: u32,
    clients: HashMap<usize, Account>,
    /// How many clients have streams that wait.
    holding: usize,
    /// There is more room than when streams were last released.
    fell: bool,
}

/// A client's.
#[derive(Default)]
struct Account {
    /// Its streams that may have to send small frames.
    streams: usize,
    charged: u32,
    /// Those of them that wait.
    held: BTreeSet<u32>,
}

impl Accounts {
    pub(super) fn charged(&self) -> u32 {
        self.charged
    }

    /// One more stream of a client.
    pub(super) fn join(&mut self, known: &mut Stream) {
        if !std::mem::replace(&mut known.joined, true) {
            self.clients.entry(known.client).or_default().streams += 1;
        }
    }

    /// A stream of a client has ended.
    pub(super) fn leave(&mut self, id: u32, known: &Stream) {
        if !known.joined {
            return;
        }
        let Some(account) = self.clients.get_mut(&known.client) else {
            return;
        };
        let held = account.held.remove(&id);
        self.holding -= usize::from(held && account.held.is_empty());
        account.streams -= 1;
        if account.streams == 0 {
            self.clients.remove(&known.client);
            self.fell = true;
        }
    }

    /// Whether a client may be charged with one more small frame.
    pub(super) fn have_room(&self, client: usize) -> bool {
        let charged = self.clients.get(&client).map_or(0, |one| one.charged);
        SMALL <= room(self.charged, self.clients.len() <= 1, charged)
    }

    /// Charges a stream and its client. Returns whether the client has half of what it may have, or
    /// more.
    pub(super) fn charge(&mut self, known: &mut Stream, by: u32) -> bool {
        self.join(known);
        known.charged += by;
        self.charged += by;
        let left = SHARED_MAX.saturating_sub(self.charged);
        self.clients.get_mut(&known.client).is_some_and(|account| {
            account.charged += by;
            left / PARTS / 2 <= account.charged
        })
    }

    /// Takes some of a stream's charge back.
    pub(super) fn give_back(&mut self, known: &mut Stream, by: u32) {
        if by == 0 {
            return;
        }
        known.charged = known.charged.saturating_sub(by);
        self.charged = self.charged.saturating_sub(by);
        if let Some(account) = self.clients.get_mut(&known.client) {
            account.charged = account.charged.saturating_sub(by);
        }
        self.fell = true;
    }

    /// A large frame makes up for small ones, of whichever client.
    pub(super) fn made_up(&mut self, by: u32) {
        self.fell |= 0 < by.min(self.charged);
        self.charged = self.charged.saturating_sub(by);
    }

    /// A stream waits for room.
    pub(super) fn keep_back(&mut self, id: u32, known: &mut Stream) {
        self.join(known);
        if let Some(account) = self.clients.get_mut(&known.client) {
            self.holding += usize::from(account.held.is_empty());
            account.held.insert(id);
        }
    }

    pub(super) fn may_release(&self) -> bool {
        self.fell && 0 < self.holding
    }

    /// The streams for whose next small frame there is room now; they do not wait any more.
    pub(super) fn released(&mut self) -> Vec<u32> {
        let mut released = vec![];
        if !self.may_release() {
            return released;
        }
        let (all, alone) = (self.charged, self.clients.len() <= 1);
        for account in self.clients.values_mut() {
            if account.held.is_empty() {
                continue;
            }
            let mut count = room(all, alone, account.charged) / SMALL;
            while 0 < count
                && let Some(id) = account.held.pop_first()
            {
                released.push(id);
                count -= 1;
            }
            self.holding -= usize::from(account.held.is_empty());
        }
        // They may leave room for more.
        self.fell = !released.is_empty();
        released
    }
}

/// How much more may be charged to a client with so much, where so much is charged to all. `alone`:
/// there is no other.
fn room(all: u32, alone: bool, charged: u32) -> u32 {
    let left = SHARED_MAX.saturating_sub(all);
    let room = match alone {
        true => left,
        false => (left / PARTS).saturating_sub(charged),
    };
    match charged {
        0 => room.max(ALL_MAX.saturating_sub(all).min(SMALL)),
        _ => room,
    }
}
