//! How a proxy shares the process's descriptors between its clients and its members.
//!
//! Of what the process may have, clients get two fifths and sockets to members three. A client of
//! HTTP/1.1 needs one at a time, which takes two of the three; the third serves requests over HTTP/2,
//! of which one connection may carry thousands. Waits hold their socket for long, so those over HTTP/2
//! get a part of that third, and one connection's a part of theirs: all waits together leave sockets
//! for other requests.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keelson_port::connections_max;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time;

/// Waits at a time over one HTTP/2 connection, at most. Clients of HTTP/1.1 have one each.
const CLIENT_WAITS_MAX: usize = 256;

/// A socket to a member may be opened.
#[derive(Debug)]
pub(crate) struct Place {
    sockets: &'static Sockets,
    _permit: SemaphorePermit<'static>,
}

impl Place {
    /// Whether all places are taken, so that requests may wait for this one.
    pub(crate) fn is_wanted(&self) -> bool {
        self.sockets.all.available_permits() == 0
    }
}

/// How many clients are served at a time.
pub(crate) fn clients_max() -> usize {
    clients_of(connections_max())
}

fn clients_of(connections: usize) -> usize {
    (connections * 2 / 5).max(1)
}

/// A connection that bears calls to a member may be opened.
pub(crate) type Http2Permit = SemaphorePermit<'static>;

/// Connections that bear calls, at a time and to all members: those of all clients, and those of
/// clients that have their own.
const SHARED_MAX: usize = 64;
const OWN_MAX: usize = 32;

/// The sockets to members.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For one request at a time.
    all: Semaphore,
    /// Of those, for waits over HTTP/2.
    waits: Semaphore,
    /// Of those, for one connection's.
    client_waits_max: usize,
    /// For calls, of which many share one.
    shared: Semaphore,
    own: Semaphore,
}

impl Sockets {
    /// Those of this process, whatever runs in it.
    pub(crate) fn of_process() -> &'static Sockets {
        static SOCKETS: OnceLock<Sockets> = OnceLock::new();
        SOCKETS.get_or_init(|| Sockets::new(connections_max()))
    }

    /// Of a process that may have so many connections.
    pub(crate) fn new(connections: usize) -> Sockets {
        let clients = clients_of(connections);
        let all = connections.saturating_sub(clients).max(1);
        let waits = (all.saturating_sub(clients) * 3 / 4).max(1);
        let semaphore = |count: usize| Semaphore::new(count.min(Semaphore::MAX_PERMITS));
        Sockets {
            all: semaphore(all),
            waits: semaphore(waits),
            client_waits_max: CLIENT_WAITS_MAX.min(waits.div_ceil(2)),
            shared: Semaphore::new(SHARED_MAX),
            own: Semaphore::new(OWN_MAX),
        }
    }

    /// The right to open a socket, if there is one now.
    pub(crate) fn free_place(&'static self) -> Option<Place> {
        let permit = self.all.try_acquire().ok()?;
        Some(self.place_of(permit))
    }

    /// The same, once there is one; an error when that takes too long.
    pub(crate) async fn place(&'static self, timeout: Duration) -> io::Result<Place> {
        let permit = time::timeout(timeout, self.all.acquire()).await?;
        permit
            .map(|permit| self.place_of(permit))
            .map_err(io::Error::other)
    }

    /// The right to open a connection for calls, if there is one now: for all clients' calls, or for
    /// those of a client that has its own.
    pub(crate) fn http2_permit(&'static self, own: bool) -> Option<Http2Permit> {
        let places = if own { &self.own } else { &self.shared };
        places.try_acquire().ok()
    }

    fn place_of(&'static self, permit: SemaphorePermit<'static>) -> Place {
        Place {
            sockets: self,
            _permit: permit,
        }
    }
}

/// Whether the process, or the machine, has no descriptor left: EMFILE or ENFILE.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// The waits over HTTP/2, by the client's address: that of one connection.
#[derive(Debug)]
pub(crate) struct Waits {
    sockets: &'static Sockets,
    by_client: Mutex<HashMap<SocketAddr, usize>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct WatchPermit {
    waits: Arc<Waits>,
    client: SocketAddr,
    _share: SemaphorePermit<'static>,
}

impl Waits {
    /// None yet; there may be so many as these sockets allow.
    pub(crate) fn new(sockets: &'static Sockets) -> Waits {
        let by_client = Mutex::default();
        Waits { sockets, by_client }
    }

    /// `None`: there are too many, over this connection or over all.
    pub(crate) fn begin(self: &Arc<Waits>, client: SocketAddr) -> Option<WatchPermit> {
        let share = self.sockets.waits.try_acquire().ok()?;
        let mut by_client = self.by_client.lock();
        let count = by_client.entry(client).or_default();
        if self.sockets.client_waits_max <= *count {
            return None;
        }
        *count += 1;
        drop(by_client);
        Some(WatchPermit {
            waits: Arc::clone(self),
            client,
            _share: share,
        })
    }
}

impl Drop for WatchPermit {
    fn drop(&mut self) {
        let mut by_client = self.waits.by_client.lock();
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
    /// For a test of its own, with so many sockets to members.
    pub(crate) fn with(all: usize) -> &'static Sockets {
        let sockets = Sockets {
            all: Semaphore::new(all),
            ..Sockets::new(1000)
        };
        Box::leak(Box::new(sockets))
    }

    /// The same, with so many connections for calls: of all clients, and of those that have their own.
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
