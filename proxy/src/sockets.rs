//! How a proxy shares the process's descriptors between its clients and its members.
//!
//! Of what the process may have, clients get two fifths and sockets to members three: each client
//! of HTTP/1.1 needs at most one at a time, and what is left serves requests over HTTP/2, of which
//! one connection may carry thousands. Waits hold their socket for long, so those over HTTP/2 get
//! no more than clients do in all, and one connection's a part of them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keelson_port::connections_max;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time;

/// Waits at a time over one HTTP/2 connection. Clients of HTTP/1.1 have one each.
pub(crate) const WAITS_MAX: usize = 256;

/// A socket to a member may be opened.
pub(crate) type Place = SemaphorePermit<'static>;

/// How many clients are served at a time.
pub(crate) fn clients_max() -> usize {
    (connections_max() * 2 / 5).max(1)
}

/// The right to open a socket to a member, once there is one; an error when that takes too long.
pub(crate) async fn place(timeout: Duration) -> io::Result<Place> {
    static MEMBERS: OnceLock<Semaphore> = OnceLock::new();
    let members = MEMBERS.get_or_init(|| {
        let count = connections_max().saturating_sub(clients_max()).max(1);
        Semaphore::new(count.min(Semaphore::MAX_PERMITS))
    });
    if let Ok(place) = members.try_acquire() {
        return Ok(place);
    }
    let place = time::timeout(timeout, members.acquire()).await?;
    place.map_err(io::Error::other)
}

/// Whether the process, or the machine, has no descriptor left: EMFILE or ENFILE.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// The waits over HTTP/2, by the client's address: that of one connection.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    by_client: Mutex<HashMap<SocketAddr, usize>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitPlace {
    waits: Arc<Waits>,
    client: SocketAddr,
    _share: SemaphorePermit<'static>,
}

impl Waits {
    /// `None`: there are too many, over this connection or over all.
    pub(crate) fn begin(self: &Arc<Waits>, client: SocketAddr) -> Option<WaitPlace> {
        static SHARE: OnceLock<Semaphore> = OnceLock::new();
        let share = SHARE.get_or_init(|| Semaphore::new(clients_max().min(Semaphore::MAX_PERMITS)));
        let share = share.try_acquire().ok()?;
        let mut by_client = self.by_client.lock();
        let count = by_client.entry(client).or_default();
        if WAITS_MAX <= *count {
            return None;
        }
        *count += 1;
        drop(by_client);
        Some(WaitPlace {
            waits: Arc::clone(self),
            client,
            _share: share,
        })
    }
}

impl Drop for WaitPlace {
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
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_so_many_waits_and_gives_them_back() {
        let waits = Arc::new(Waits::default());
        let one = SocketAddr::from(([127, 0, 0, 1], 1));
        let count = WAITS_MAX.min(clients_max());
        let mut places: Vec<_> = (0..count).map_while(|_| waits.begin(one)).collect();
        assert_eq!(places.len(), count);
        assert!(waits.begin(one).is_none());
        places.pop();
        assert!(waits.begin(one).is_some());
        places.clear();
        assert!(waits.by_client.lock().is_empty());
    }
}
