//! Memory budgets with a share for each connection.
//!
//! A connection is identified by its client's address, which the port passes to a service. The
//! address is a task-local value while a request's future is polled. As an extension of the
//! request it would cost every request three allocations, for the few with a large answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

tokio::task_local! {
    static CLIENT: SocketAddr;
}

/// Calls or polls `act` with the client's address set.
pub fn on_behalf_of<T>(client: SocketAddr, act: impl FnOnce() -> T) -> T {
    CLIENT.sync_scope(client, act)
}

/// The client of the request that is being served; `None` outside of a port, as in tests.
pub fn client() -> Option<SocketAddr> {
    CLIENT.try_with(|client| *client).ok()
}

/// A memory budget in KiB, and the part that each connection holds. There are at most as many
/// accounts as held shares.
#[derive(Debug)]
pub struct Ledger {
    accounts: Mutex<Accounts>,
    /// Limits a connection to half as much as it leaves free.
    fair: bool,
}

#[derive(Debug)]
struct Accounts {
    free_kib: u32,
    held_kib: HashMap<SocketAddr, u32>,
}

/// A part of a budget, which is returned when it is dropped.
#[derive(Debug)]
pub struct Share {
    ledger: Arc<Ledger>,
    client: Option<SocketAddr>,
    kib: u32,
}

impl Ledger {
    /// A budget of that size in KiB, with a limit for each connection.
    pub fn fair(kib: u32) -> Arc<Ledger> {
        Ledger::new(kib, true)
    }

    /// A budget of that size in KiB without a limit for a connection.
    pub fn unfair(kib: u32) -> Arc<Ledger> {
        Ledger::new(kib, false)
    }

    fn new(free_kib: u32, fair: bool) -> Arc<Ledger> {
        let held_kib = HashMap::new();
        let accounts = Accounts { free_kib, held_kib };
        Arc::new(Ledger {
            accounts: Mutex::new(accounts),
            fair,
        })
    }

    /// Takes a share of that size in KiB, if the connection may have it. Without a client it is
    /// on no account.
    pub fn take(self: &Arc<Ledger>, client: Option<SocketAddr>, kib: u32) -> Option<Share> {
        let mut share = Share {
            ledger: Arc::clone(self),
            client,
            kib: 0,
        };
        share.resize(kib).then_some(share)
    }

    /// Whether a share of that size, on no account, is available.
    pub fn has(&self, kib: u32) -> bool {
        self.left(&self.accounts.lock(), None, kib).is_some()
    }

    /// The rest of the budget after such a share, if it is available.
    fn left(&self, accounts: &Accounts, client: Option<SocketAddr>, kib: u32) -> Option<u32> {
        let left = accounts.free_kib.checked_sub(kib)?;
        let held = client.and_then(|client| accounts.held_kib.get(&client));
        let holds = held.copied().unwrap_or(0).saturating_add(kib);
        (!self.fair || holds <= left / 2).then_some(left)
    }
}

impl Share {
    /// Makes it that many KiB. Returns whether they are available; otherwise it stays as it is.
    pub fn resize(&mut self, kib: u32) -> bool {
        let mut accounts = self.ledger.accounts.lock();
        let Some(more) = kib.checked_sub(self.kib) else {
            accounts.give_back(self.client, self.kib - kib);
            self.kib = kib;
            return true;
        };
        let Some(left) = self.ledger.left(&accounts, self.client, more) else {
            return false;
        };
        accounts.free_kib = left;
        if let Some(client) = self.client {
            *accounts.held_kib.entry(client).or_default() += more;
        }
        self.kib = kib;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut accounts = self.ledger.accounts.lock();
        accounts.give_back(self.client, self.kib);
    }
}

impl Accounts {
    fn give_back(&mut self, client: Option<SocketAddr>, kib: u32) {
        self.free_kib += kib;
        let Some(client) = client else { return };
        if let Some(held) = self.held_kib.get_mut(&client) {
            *held -= kib;
            if *held == 0 {
                self.held_kib.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes shares of that size for one connection until the limit.
    fn crowd(ledger: &Arc<Ledger>, port: u16, kib: u32) -> Vec<Share> {
        let client = Some(SocketAddr::from(([127, 0, 0, 1], port)));
        std::iter::from_fn(|| ledger.take(client, kib)).collect()
    }

    #[test]
    fn a_few_connections_do_not_take_all() {
        let ledger = Ledger::fair(1024);
        let mut held: Vec<_> = (0..10).map(|port| crowd(&ledger, port, 1)).collect();
        assert_eq!(held[0].len(), 341, "a third");
        assert!(!crowd(&ledger, 11, 1).is_empty(), "one more");
        assert!(ledger.has(1));
        held.remove(0);
        assert!(100 < crowd(&ledger, 11, 1).len(), "room came back");
    }

    #[test]
    fn a_share_grows_within_the_limit_and_shrinks() {
        let ledger = Ledger::fair(90);
        let client = Some(SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut share = ledger.take(client, 10).unwrap();
        assert!(share.resize(30));
        assert!(!share.resize(31), "a third");
        assert!(ledger.take(client, 1).is_none());
        assert!(share.resize(20));
        assert_eq!(ledger.accounts.lock().free_kib, 70);
        drop(ledger.take(client, 10).unwrap());
        drop(share);
        assert_eq!(ledger.accounts.lock().free_kib, 90);
        assert!(ledger.accounts.lock().held_kib.is_empty());
    }

    #[test]
    fn accounts_are_kept_only_while_something_is_held() {
        let ledger = Ledger::fair(1024);
        let held = (crowd(&ledger, 1, 9), crowd(&ledger, 2, 9));
        assert_eq!(ledger.accounts.lock().held_kib.len(), 2);
        drop(held);
        assert!(ledger.accounts.lock().held_kib.is_empty());
        assert_eq!(ledger.accounts.lock().free_kib, 1024);
    }
}
