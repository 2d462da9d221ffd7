//! The file descriptors of the process, shared between clients and members.
//!
//! Two fifths are for clients, three for sockets to members. A client of HTTP/1.1 needs one such
//! socket at a time, which takes two of the three; the third serves requests over HTTP/2, of which
//! one connection may carry thousands. Watches hold a socket for long, so those over HTTP/2 get a
//! part of that third, and each connection a part of theirs: all watches together leave sockets for
//! other requests.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keelson_port::connections_max;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time;

/// Watches at a time over one HTTP/2 connection, at most. Clients of HTTP/1.1 have one each.
const CLIENT_WATCHES_MAX: usize = 256;

/// A permit for one socket to a member.
#[derive(Debug)]
pub(crate) struct SocketPermit {
    sockets: &'static Sockets,
    _permit: SemaphorePermit<'static>,
}

impl SocketPermit {
    /// Whether no permit is free, so that requests may wait for this one.
    pub(crate) fn is_awaited(&self) -> bool {
        self.sockets.all.available_permits() == 0
    }
}

/// The number of clients that are served at a time.
pub(crate) fn clients_max() -> usize {
    clients_of(connections_max())
}

fn clients_of(connections: usize) -> usize {
    (connections * 2 / 5).max(1)
}

/// A permit for one HTTP/2 connection to a member.
pub(crate) type Http2Permit = SemaphorePermit<'static>;

/// HTTP/2 connections at a time, to all members: those that clients share, and those of clients
/// that have their own.
const SHARED_MAX: usize = 64;
const OWN_MAX: usize = 32;

/// The permits for sockets to members.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For HTTP/1.1, one request at a time.
    all: Semaphore,
    /// Of those, for watches over HTTP/2.
    watches: Semaphore,
    /// Of those, for the watches of one connection.
    client_watches_max: usize,
    /// For HTTP/2, many calls at a time.
    shared: Semaphore,
    own: Semaphore,
}

impl Sockets {
    /// The permits of this process. Proxies in one process share them.
    pub(crate) fn of_process() -> &'static Sockets {
        static SOCKETS: OnceLock<Sockets> = OnceLock::new();
        SOCKETS.get_or_init(|| Sockets::new(connections_max()))
    }

    /// The permits of a process that may have this many connections.
    pub(crate) fn new(connections: usize) -> Sockets {
        let clients = clients_of(connections);
        let all = connections.saturating_sub(clients).max(1);
        let watches = (all.saturating_sub(clients) * 3 / 4).max(1);
        let semaphore = |count: usize| Semaphore::new(count.min(Semaphore::MAX_PERMITS));
        Sockets {
            all: semaphore(all),
            watches: semaphore(watches),
            client_watches_max: CLIENT_WATCHES_MAX.min(watches.div_ceil(2)),
            shared: Semaphore::new(SHARED_MAX),
            own: Semaphore::new(OWN_MAX),
        }
    }

    /// A permit for a socket, if one is free.
    pub(crate) fn free_permit(&'static self) -> Option<SocketPermit> {
        let permit = self.all.try_acquire().ok()?;
        Some(self.wrap(permit))
    }

    /// The same, once one is free; an error after `timeout`.
    pub(crate) async fn permit(&'static self, timeout: Duration) -> io::Result<SocketPermit> {
        let permit = time::timeout(timeout, self.all.acquire()).await?;
        permit
            .map(|permit| self.wrap(permit))
            .map_err(io::Error::other)
    }

    /// A permit for an HTTP/2 connection, if one is free: one that clients share, or a client's
    /// own.
    pub(crate) fn http2_permit(&'static self, own: bool) -> Option<Http2Permit> {
        let permits = if own { &self.own } else { &self.shared };
        permits.try_acquire().ok()
    }

    fn wrap(&'static self, permit: SemaphorePermit<'static>) -> SocketPermit {
        SocketPermit {
            sockets: self,
            _permit: permit,
        }
    }
}

/// Whether the process or the system has no file descriptor left: EMFILE or ENFILE.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// The watches over HTTP/2, by the client's address and port: by connection.
#[derive(Debug)]
pub(crate) struct Watches {
    sockets: &'static Sockets,
    by_client: Mutex<HashMap<SocketAddr, usize>>,
}

/// A permit for one of them.
#[derive(Debug)]
pub(crate) struct WatchPermit {
    watches: Arc<Watches>,
    client: SocketAddr,
    _share: SemaphorePermit<'static>,
}

impl Watches {
    /// No watches yet.
    pub(crate) fn new(sockets: &'static Sockets) -> Watches {
        let by_client = Mutex::default();
        Watches { sockets, by_client }
    }

    /// A permit for another watch. `None`: this connection, or all together, have too many.
    pub(crate) fn begin(self: &Arc<Watches>, client: SocketAddr) -> Option<WatchPermit> {
        let share = self.sockets.watches.try_acquire().ok()?;
        let mut by_client = self.by_client.lock();
        let count = by_client.entry(client).or_default();
        if self.sockets.client_watches_max <= *count {
            return None;
        }
        *count += 1;
        drop(by_client);
        Some(WatchPermit {
            watches: Arc::clone(self),
            client,
            _share: share,
        })
    }
}

impl Drop for WatchPermit {
    fn drop(&mut self) {
        let mut by_client = self.watches.by_client.lock();
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
impl Sockets {
    /// Permits of a test's own, with this many sockets to members.
    pub(crate) fn with(all: usize) -> &'static Sockets {
        let sockets = Sockets {
            all: Semaphore::new(all),
            ..Sockets::new(1000)
        };
        Box::leak(Box::new(sockets))
    }

    /// The same, with this many HTTP/2 connections: shared ones, and clients' own.
    pub(crate) fn with_calls(shared: usize, own: usize) -> &'static Sockets {
        let sockets = Sockets {
            shared: Semaphore::new(shared),
            own: Semaphore::new(own),
            ..Sockets::new(1000)
        };
        Box::leak(Box::new(sockets))
    }
}

#[cfg(test)]
mod tests;
