//! Divides the budget of small frames on a connection between its accounts, one for each client.
//!
//! Each client may use a part of what is left, so that some is left for the next client. The first
//! small frame of a client has a reserve of its own. The charge of a stream that ended without an
//! answer stays in the client's account until the client has no stream here. If much is lost in
//! this way, the connection takes no new streams.

use std::collections::{BTreeSet, HashMap};

use super::Stream;
use super::small_frames::SMALL_BYTES;

/// The budget of a connection for small frames, in bytes, without the first ones of clients...
pub(super) const SHARED_MAX: u32 = 384 * 1024;
/// ...and with those.
const ALL_MAX: u32 = 448 * 1024;

/// A client may use one part in so many of what is left.
const PARTS: u32 = 8;

const SMALL: u32 = SMALL_BYTES as u32;

/// The charges of a connection, by client.
#[derive(Default)]
pub(super) struct Accounts {
    charged: u32,
    clients: HashMap<usize, Account>,
    /// The number of clients with waiting streams.
    holding: usize,
    /// Charges have fallen since streams were last released.
    fell: bool,
}

/// The account of a client.
#[derive(Default)]
struct Account {
    /// The number of its streams that may send small frames.
    streams: usize,
    charged: u32,
    /// The streams that wait for budget.
    held: BTreeSet<u32>,
}

impl Accounts {
    pub(super) fn charged(&self) -> u32 {
        self.charged
    }

    /// Adds a stream to its client's account.
    pub(super) fn join<O>(&mut self, entry: &mut Stream<O>) {
        if !std::mem::replace(&mut entry.joined, true) {
            self.clients.entry(entry.account).or_default().streams += 1;
        }
    }

    /// Removes an ended stream.
    pub(super) fn leave<O>(&mut self, id: u32, entry: &Stream<O>) {
        if !entry.joined {
            return;
        }
        let Some(account) = self.clients.get_mut(&entry.account) else {
            return;
        };
        let held = account.held.remove(&id);
        self.holding -= usize::from(held && account.held.is_empty());
        account.streams -= 1;
        if account.streams == 0 {
            self.clients.remove(&entry.account);
            self.fell = true;
        }
    }

    /// Whether a client may send one more small frame.
    pub(super) fn have_room(&self, client: usize) -> bool {
        let charged = self.clients.get(&client).map_or(0, |one| one.charged);
        SMALL <= room(self.charged, self.clients.len() <= 1, charged)
    }

    /// Charges a stream and its client. Returns whether the client uses half of its part or more.
    pub(super) fn charge<O>(&mut self, entry: &mut Stream<O>, by: u32) -> bool {
        self.join(entry);
        entry.charged += by;
        self.charged += by;
        let left = SHARED_MAX.saturating_sub(self.charged);
        self.clients.get_mut(&entry.account).is_some_and(|account| {
            account.charged += by;
            left / PARTS / 2 <= account.charged
        })
    }

    /// Refunds a part of a stream's charge.
    pub(super) fn give_back<O>(&mut self, entry: &mut Stream<O>, by: u32) {
        if by == 0 {
            return;
        }
        entry.charged = entry.charged.saturating_sub(by);
        self.charged = self.charged.saturating_sub(by);
        if let Some(account) = self.clients.get_mut(&entry.account) {
            account.charged = account.charged.saturating_sub(by);
        }
        self.fell = true;
    }

    /// A large frame offsets small ones of any client.
    pub(super) fn made_up(&mut self, by: u32) {
        self.fell |= 0 < by.min(self.charged);
        self.charged = self.charged.saturating_sub(by);
    }

    /// A stream waits for budget.
    pub(super) fn keep_back<O>(&mut self, id: u32, entry: &mut Stream<O>) {
        self.join(entry);
        if let Some(account) = self.clients.get_mut(&entry.account) {
            self.holding += usize::from(account.held.is_empty());
            account.held.insert(id);
        }
    }

    pub(super) fn may_release(&self) -> bool {
        self.fell && 0 < self.holding
    }

    /// Takes out the waiting streams whose next small frame fits the budget now.
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

/// The bytes that may still be charged to a client. `all`: charged to the connection; `charged`: to
/// the client; `alone`: there is no other client.
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
