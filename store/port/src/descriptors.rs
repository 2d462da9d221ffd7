//! File descriptors: how many the process may have, and how ports share them.

use std::sync::{Arc, OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Kept back from clients, as etcd keeps them: the log, the engine, connections to peers.
const RESERVED: usize = 150;
/// However low the limit is, so many connections are served.
const CONNECTIONS_MIN: usize = 16;
/// No process has so many; the kernel's own default for `nr_open` is 2^20.
const UNLIMITED: u64 = 1 << 30;

/// Raises this process's soft limit of open files to the hard one, as Go's runtime does at start.
/// An embedder should call it before it opens a store: systemd and most shells set 1024, and a
/// store serves [`connections_max`] clients.
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The soft limit of open files.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// How many connections the process has descriptors for: its limit of open files, less 150.
pub fn connections_max() -> usize {
    let limit = descriptor_limit();
    let limit = usize::try_from(limit.min(UNLIMITED)).unwrap_or(usize::MAX);
    limit.saturating_sub(RESERVED).max(CONNECTIONS_MIN)
}

/// Of [`connections_max`], kept for peers: clients must not keep a member from its cluster.
const PEERS_SHARE: usize = 16;
const PEERS_MAX: usize = 64;

/// Slots for connections, shared by all ports of the process.
#[derive(Clone, Debug)]
pub struct Slots {
    /// Of ports of one kind, or of one port.
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Slots {
    /// For a port of clients: a few of the process's places are kept from them, for peers.
    pub fn of_clients() -> Slots {
        let Process { all, clients, .. } = process();
        Slots {
            own: Arc::clone(clients),
            all: Arc::clone(all),
        }
    }

    /// For a port of peers: half of the process's places are kept for clients.
    pub fn of_peers() -> Slots {
        let Process { all, peers, .. } = process();
        Slots {
            own: Arc::clone(peers),
            all: Arc::clone(all),
        }
    }

    /// The same, but for no more than so many on this port.
    pub fn at_most(self, count: usize) -> Slots {
        let own = Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Slots { own, ..self }
    }

    /// The next place that is free.
    pub(crate) async fn take(&self) -> Slot {
        const OPEN: &str = "a semaphore that is never closed";
        let own = Arc::clone(&self.own).acquire_owned().await.expect(OPEN);
        let all = Arc::clone(&self.all).acquire_owned().await.expect(OPEN);
        Slot {
            _own: own,
            _all: all,
        }
    }
}

/// The places of the process.
struct Process {
    all: Arc<Semaphore>,
    clients: Arc<Semaphore>,
    peers: Arc<Semaphore>,
}

impl Process {
    fn new(all: usize) -> Process {
        let places = |count| Arc::new(Semaphore::new(count));
        Process {
            all: places(all),
            clients: places(all - (all / PEERS_SHARE).min(PEERS_MAX)),
            peers: places(all / 2),
        }
    }
}

/// Counted when the first port is opened.
fn process() -> &'static Process {
    static PROCESS: OnceLock<Process> = OnceLock::new();
    PROCESS.get_or_init(|| Process::new(connections_max()))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn neither_clients_nor_peers_can_take_all_places() {
        let Process {
            all,
            clients,
            peers,
        } = Process::new(32);
        let clients = Slots {
            own: clients,
            all: Arc::clone(&all),
        };
        let peers = Slots { own: peers, all };
        let mut nobody = Context::from_waker(Waker::noop());
        for (one, most, other) in [(&clients, 30, &peers), (&peers, 16, &clients)] {
            let mut taken = Vec::new();
            for _ in 0..most {
                taken.push(one.take().await);
            }
            let mut next = pin!(one.take());
            assert!(next.as_mut().poll(&mut nobody).is_pending());
            drop(other.take().await);
            taken.pop();
            next.await;
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        raise_descriptor_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        let most = current.map_or(UNLIMITED, |limit| limit.min(UNLIMITED));
        assert!(u64::try_from(connections_max()).unwrap() + 150 <= most.max(166));
    }
}
