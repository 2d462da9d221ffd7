//! The sending half of the transport: one task for each peer, which keeps a stream open and sends
//! a bounded queue over it. Messages that do not fit are dropped and reported; Raft repeats those
//! that still matter.

mod link_task;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keelson_core::member::weight;
use keelson_core::{ClusterId, MemberId};
use keelson_port::ClientTls;
use keelson_proto::peer::PeerMessage;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::link_task::LinkTask;
use super::link_log::LinkLog;
use super::load::{QueueBytes, QueuedBytes};
use super::{Introduction, PeerAddress};
use crate::config::Url;
use crate::metrics::{LinkCounts, LinkRead, Transfer};

/// The most messages that wait for one peer. A leader's appends are batched, so this is seconds
/// of traffic.
const QUEUE_MAX: usize = 4096;
/// The size limit of these messages, in bytes: all that the core allows in flight to a peer, and a
/// reserve. The core allows 16 MiB of appends, or 64 MiB of proposals for the leader.
const QUEUE_BYTES_MAX: usize = 96 << 20;

/// The events of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The connection broke and a new one is refused: the peer's process has ended.
    Down(MemberId),
    /// The peer is reachable again.
    Up(MemberId),
    /// Messages were dropped.
    Lost(MemberId),
    /// The peer reports that this member was removed from the cluster.
    Removed,
}

/// Why a message was not sent. It certainly did not reach the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// There is no link to that member.
    NoLink,
    /// The queue to the peer is full.
    Full,
}

/// The callback for `PeerEvent`s. It runs on any thread.
pub type PeerListener = Arc<dyn Fn(PeerEvent) + Send + Sync>;

/// The envelope numbers of one incarnation of a member, over all of its links: they rise even
/// when a link is opened again.
#[derive(Debug, Default)]
pub struct Numbering(AtomicU64);

impl Numbering {
    /// The next number; the first is 1.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The queue to one peer, and the task that sends it.
struct Link {
    queue: mpsc::Sender<Queued>,
    /// The bytes in the queue, and in envelopes that wait for the connection.
    waiting: QueueBytes,
    task: JoinHandle<()>,
    counts: Arc<LinkCounts>,
    address: watch::Sender<PeerAddress>,
}

/// The open links.
#[derive(Default)]
struct Open {
    links: HashMap<MemberId, Link>,
    /// The snapshot transfers in progress.
    transfers: JoinSet<()>,
    /// No more links are opened.
    closed: bool,
}

/// A message in a queue, and its count.
type Queued = (PeerMessage, QueuedBytes);

/// The links of a member to all peers. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    me: Introduction,
    listener: PeerListener,
    links: Arc<RwLock<Open>>,
    up: Arc<RwLock<HashMap<MemberId, bool>>>,
    numbering: Arc<Numbering>,
    runtime: tokio::runtime::Handle,
    tls: ClientTls,
}

/// The name of [`Links`] for the threads that only send.
pub type Outbox = Links;

impl Links {
    /// No links yet. `runtime` runs the tasks of the links.
    pub fn new(
        cluster: ClusterId,
        member: MemberId,
        incarnation: u64,
        listener: PeerListener,
        runtime: tokio::runtime::Handle,
    ) -> Links {
        let me = Introduction {
            cluster,
            from: member,
            to: MemberId::NONE,
            incarnation,
            key: random_key(),
        };
        Links {
            me,
            listener,
            links: Arc::default(),
            up: Arc::default(),
            numbering: Arc::default(),
            runtime,
            tls: ClientTls::default(),
        }
    }

    /// The same, with this TLS for peers with https URLs.
    pub fn with_tls(self, tls: ClientTls) -> Links {
        Links { tls, ..self }
    }

    /// For peers with https URLs.
    pub(crate) fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// Opens and closes links so that they match `members`. If the URLs of a peer change, its
    /// connection stays; the next one uses the new URLs.
    pub fn update(&self, members: &[PeerAddress]) {
        let mut open = self.links.write();
        if open.closed {
            return;
        }
        let links = &mut open.links;
        links.retain(|id, link| {
            let keep = members.iter().any(|member| member.id == *id);
            if !keep {
                link.task.abort();
                self.up.write().remove(id);
            }
            keep
        });
        for member in members {
            if member.id == self.me.from {
                continue;
            }
            match links.get(&member.id) {
                Some(link) => {
                    link.address.send_if_modified(|address| {
                        let changed = address != member;
                        address.clone_from(member);
                        changed
                    });
                }
                None => {
                    links.insert(member.id, self.open(member));
                }
            }
        }
    }

    fn open(&self, member: &PeerAddress) -> Link {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let (address, addresses) = watch::channel(member.clone());
        let counts = Arc::<LinkCounts>::default();
        let link_task = LinkTask {
            me: self.introduction(member.id),
            address: member.clone(),
            addresses,
            listener: Arc::clone(&self.listener),
            up: Arc::clone(&self.up),
            numbering: Arc::clone(&self.numbering),
            tls: self.tls.clone(),
            reached: Vec::new(),
            link_log: LinkLog::new(),
            silent: false,
            counts: Arc::clone(&counts),
        };
        let task = self.runtime.spawn(link_task.run(messages));
        Link {
            queue,
            waiting: QueueBytes::default(),
            task,
            counts,
            address,
        }
    }

    /// Queues a message, or drops it and reports that to the listener as well.
    ///
    /// # Errors
    /// Why the message was dropped. A queued message may still be lost.
    pub fn send(&self, to: MemberId, message: PeerMessage) -> Result<(), SendError> {
        let open = self.links.read();
        let link = open.links.get(&to).ok_or(SendError::NoLink);
        let sent = link.and_then(|link| {
            let sent = link.send(message);
            if sent.is_err() {
                link.counts.failures.add(1);
            }
            sent
        });
        drop(open);
        if sent.is_err() {
            (self.listener)(PeerEvent::Lost(to));
        }
        sent
    }

    /// Counts a snapshot that begins; `None` without a link to the member.
    pub(crate) fn begin_snapshot(&self, to: MemberId) -> Option<Transfer> {
        let open = self.links.read();
        let link = open.links.get(&to)?;
        Some(Transfer::begin(Arc::clone(&link.counts.snapshots)))
    }

    /// Calls `see` with the counts of all links, by id.
    pub(crate) fn read(&self, see: impl FnOnce(&[LinkRead<'_>])) {
        let open = self.links.read();
        let mut links: Vec<_> = open
            .links
            .iter()
            .map(|(peer, link)| LinkRead {
                peer: *peer,
                is_up: self.is_up(*peer),
                counts: &link.counts,
            })
            .collect();
        links.sort_by_key(|link| link.peer);
        see(&links);
    }

    /// The peer's URLs; `None` without a link to it.
    pub fn urls(&self, peer: MemberId) -> Option<Vec<Url>> {
        let open = self.links.read();
        let link = open.links.get(&peer)?;
        let urls = link.address.borrow().urls.clone();
        Some(urls)
    }

    /// Whether the peer is connected.
    pub fn is_up(&self, peer: MemberId) -> bool {
        self.up.read().get(&peer).copied().unwrap_or(false)
    }

    /// The random key of this member's incarnation.
    pub fn key(&self) -> u64 {
        self.me.key
    }

    /// The introduction of this member's calls to that peer.
    pub fn introduction(&self, to: MemberId) -> Introduction {
        Introduction { to, ..self.me }
    }

    /// Spawns a snapshot transfer, which ends with the links.
    pub(crate) fn spawn(&self, transfer: impl Future<Output = ()> + Send + 'static) {
        let mut open = self.links.write();
        while open.transfers.try_join_next().is_some() {}
        if !open.closed {
            open.transfers.spawn_on(transfer, &self.runtime);
        }
    }

    /// Closes every link and aborts every transfer, for good. The returned future resolves when
    /// none of them holds any resource of the member.
    pub fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut open = self.links.write();
        open.closed = true;
        let couriers: Vec<_> = open.links.drain().map(|(_, link)| link.task).collect();
        couriers.iter().for_each(JoinHandle::abort);
        let mut transfers = std::mem::take(&mut open.transfers);
        transfers.abort_all();
        async move {
            for link_task in couriers {
                let _ = link_task.await;
            }
            transfers.shutdown().await;
        }
    }
}

impl Link {
    fn send(&self, message: PeerMessage) -> Result<(), SendError> {
        let queued = self.waiting.add(weight(&message), QUEUE_BYTES_MAX);
        let queued = queued.ok_or(SendError::Full)?;
        let queued = self.queue.try_send((message, queued));
        queued.map_err(|_| SendError::Full)
    }
}

/// An unpredictable number: the standard library seeds its hash maps from the system's randomness.
fn random_key() -> u64 {
    let mut drawn = std::iter::repeat_with(|| RandomState::new().build_hasher().finish());
    drawn.find(|key| *key != 0).unwrap_or(1)
}

#[cfg(test)]
mod tests;
