//! The outgoing half: one task for each peer, which keeps a stream open and empties a bounded queue
//! into it. What does not fit is dropped and reported; Raft sends again what still matters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_core::{ClusterId, MemberId};
use keelson_proto::peer::{Envelope, PeerMessage};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};
use tracing::{debug, info, warn};

use super::Introduction;
use super::connect::{self, ConnectError};
use super::gate;
use super::load::{Counted, Waiting, weight};
use crate::config::Url;

/// Messages that wait for one peer. A leader's appends are batched, so this is seconds of them.
const QUEUE_MAX: usize = 4096;
/// What they may weigh together: all that the core lets be under way to a peer, 16 MiB of appends or
/// 64 MiB of proposals for the leader, and some.
const QUEUE_BYTES_MAX: usize = 96 << 20;
/// Messages that share an envelope.
const ENVELOPE_MAX: usize = 128;
/// What they weigh together, beyond the first: an envelope is encoded as a whole.
const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Envelopes on their way into the connection.
const STREAM_MAX: usize = 16;
/// The waits between attempts to connect.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// What the links have to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The connection broke and a new one is refused: the process is gone.
    Down(MemberId),
    /// The peer can be reached again.
    Up(MemberId),
    /// Messages were dropped.
    Lost(MemberId),
    /// The peer says that this member was removed from the cluster.
    Removed,
}

/// Hears `PeerEvent`s, on any thread.
pub type PeerListener = Arc<dyn Fn(PeerEvent) + Send + Sync>;

/// The queue to one peer, and the task that empties it.
struct Link {
    queue: mpsc::Sender<Queued>,
    /// What is in the queue, and in envelopes that the connection has not taken yet.
    waiting: Waiting,
    task: JoinHandle<()>,
    urls: Vec<Url>,
}

/// A message that waits for its peer.
type Queued = (PeerMessage, Counted);

/// All links of a member. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    me: Introduction,
    listener: PeerListener,
    links: Arc<RwLock<HashMap<MemberId, Link>>>,
    up: Arc<RwLock<HashMap<MemberId, bool>>>,
    runtime: tokio::runtime::Handle,
}

/// What the threads of a member send through.
pub type Outbox = Links;

impl Links {
    /// No links yet. `runtime` is where their tasks will live.
    pub fn new(
        cluster: ClusterId,
        member: MemberId,
        boot: u64,
        listener: PeerListener,
        runtime: tokio::runtime::Handle,
    ) -> Links {
        let me = Introduction {
            cluster,
            from: member,
            to: MemberId::NONE,
            boot,
        };
        Links {
            me,
            listener,
            links: Arc::default(),
            up: Arc::default(),
            runtime,
        }
    }

    /// Makes the links those of `members`: opens, closes and redirects as needed.
    pub fn update(&self, members: &[(MemberId, Vec<Url>)]) {
        let mut links = self.links.write();
        links.retain(|id, link| {
            let same = |(member, urls): &(MemberId, Vec<Url>)| member == id && *urls == link.urls;
            let keep = members.iter().any(same);
            if !keep {
                link.task.abort();
            }
            keep
        });
        for (id, urls) in members {
            if *id == self.me.from || links.contains_key(id) {
                continue;
            }
            let (queue, messages) = mpsc::channel(QUEUE_MAX);
            let courier = Courier {
                me: Introduction { to: *id, ..self.me },
                urls: urls.clone(),
                listener: Arc::clone(&self.listener),
                up: Arc::clone(&self.up),
                sequence: 0,
            };
            let task = self.runtime.spawn(courier.run(messages));
            links.insert(
                *id,
                Link {
                    queue,
                    waiting: Waiting::default(),
                    task,
                    urls: urls.clone(),
                },
            );
        }
    }

    /// Sends a message, or drops it and says so.
    pub fn send(&self, to: MemberId, message: PeerMessage) {
        let links = self.links.read();
        let sent = links.get(&to).is_some_and(|link| link.send(message));
        if !sent {
            drop(links);
            (self.listener)(PeerEvent::Lost(to));
        }
    }

    /// The peer's URLs, if there is such a peer.
    pub fn urls(&self, peer: MemberId) -> Option<Vec<Url>> {
        self.links.read().get(&peer).map(|link| link.urls.clone())
    }

    /// Whether the connection to that peer stands.
    pub fn is_up(&self, peer: MemberId) -> bool {
        self.up.read().get(&peer).copied().unwrap_or(false)
    }

    /// How this member introduces itself to that peer.
    pub fn introduction(&self, to: MemberId) -> Introduction {
        Introduction { to, ..self.me }
    }

    /// Closes every link.
    pub fn close(&self) {
        for (_, link) in self.links.write().drain() {
            link.task.abort();
        }
    }
}

impl Link {
    /// Whether there was room for the message.
    fn send(&self, message: PeerMessage) -> bool {
        let counted = self.waiting.add(weight(&message), QUEUE_BYTES_MAX);
        counted.is_some_and(|counted| self.queue.try_send((message, counted)).is_ok())
    }
}

/// The task of one link.
struct Courier {
    me: Introduction,
    urls: Vec<Url>,
    listener: PeerListener,
    up: Arc<RwLock<HashMap<MemberId, bool>>>,
    /// Rises over all connections of this life, so that the peer can tell new from old.
    sequence: u64,
}

impl Courier {
    async fn run(mut self, mut messages: mpsc::Receiver<Queued>) {
        let peer = self.me.to;
        let mut retry = RETRY_MIN;
        loop {
            match connect::connect(&self.urls).await {
                Ok(client) => {
                    let began = Instant::now();
                    let ended = self.carry(client, &mut messages).await;
                    self.note_up(false);
                    match ended {
                        Ended::QueueClosed => return,
                        Ended::Broken(status) => self.explain(&status),
                    }
                    if RETRY_MAX < began.elapsed() {
                        // Straight back to connecting: a refusal now means that the process is gone.
                        retry = RETRY_MIN;
                        continue;
                    }
                }
                Err(ConnectError::Refused) => (self.listener)(PeerEvent::Down(peer)),
                Err(ConnectError::Other(why)) => debug!(%peer, %why, "cannot connect to peer"),
            }
            // What waits is stale by the time the peer is back.
            let mut dropped = false;
            while messages.try_recv().is_ok() {
                dropped = true;
            }
            if dropped {
                (self.listener)(PeerEvent::Lost(peer));
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    async fn carry(
        &mut self,
        mut client: keelson_proto::peer::peer_client::PeerClient<tonic::transport::Channel>,
        messages: &mut mpsc::Receiver<Queued>,
    ) -> Ended {
        let (envelopes, stream) = mpsc::channel(STREAM_MAX);
        // Once the connection has taken an envelope it no longer counts.
        let stream = ReceiverStream::new(stream).map(|(envelope, _): (_, Vec<Counted>)| envelope);
        let mut request = Request::new(stream);
        self.me.write(request.metadata_mut());
        self.note_up(true);
        let call = client.stream(request);
        tokio::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => {
                    let closed = || Status::unavailable("the peer closed the stream");
                    return Ended::Broken(answer.err().unwrap_or_else(closed));
                }
                first = messages.recv() => {
                    let Some(first) = first else {
                        return Ended::QueueClosed;
                    };
                    self.sequence += 1;
                    let (batch, counted) = gather(first, messages);
                    let envelope = Envelope { sequence: self.sequence, messages: batch };
                    tokio::select! {
                        answer = &mut call => {
                            let closed = || Status::unavailable("the peer closed the stream");
                            return Ended::Broken(answer.err().unwrap_or_else(closed));
                        }
                        sent = envelopes.send((envelope, counted)) => if sent.is_err() {
                            return Ended::Broken(Status::unavailable("the stream broke"));
                        }
                    }
                }
            }
        }
    }

    fn note_up(&self, up: bool) {
        let before = self.up.write().insert(self.me.to, up);
        if up {
            (self.listener)(PeerEvent::Up(self.me.to));
            info!(peer = %self.me.to, "connected to peer");
        } else if before == Some(true) {
            (self.listener)(PeerEvent::Lost(self.me.to));
        }
    }

    fn explain(&self, status: &Status) {
        let peer = self.me.to;
        if status.code() == Code::PermissionDenied && status.message() == gate::REMOVED {
            (self.listener)(PeerEvent::Removed);
        }
        match status.code() {
            Code::FailedPrecondition | Code::PermissionDenied => {
                warn!(%peer, why = status.message(), "the peer refused this member");
            }
            _ => info!(%peer, why = status.message(), "lost the connection to the peer"),
        }
    }
}

/// The messages that share an envelope with the first.
fn gather(
    first: Queued,
    messages: &mut mpsc::Receiver<Queued>,
) -> (Vec<PeerMessage>, Vec<Counted>) {
    let mut bytes = first.1.bytes;
    let (mut batch, mut counted) = (vec![first.0], vec![first.1]);
    while batch.len() < ENVELOPE_MAX
        && bytes < ENVELOPE_BYTES_MAX
        && let Ok((message, count)) = messages.try_recv()
    {
        bytes += count.bytes;
        batch.push(message);
        counted.push(count);
    }
    (batch, counted)
}

enum Ended {
    QueueClosed,
    Broken(Status),
}

#[cfg(test)]
mod tests;
