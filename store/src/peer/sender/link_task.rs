//! The task of one link: it connects, streams envelopes from the queue, and reports how calls end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_core::MemberId;
use keelson_port::ClientTls;
use keelson_proto::peer::peer_client::PeerClient;
use keelson_proto::peer::{Envelope, MembersRequest, PeerMessage};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};
use tracing::{debug, info};

use super::{Numbering, PeerEvent, PeerListener, Queued};
use crate::config::Url;
use crate::metrics::LinkCounts;
use crate::peer::connect::{self, ConnectError};
use crate::peer::link_log::{self, LinkEnd, LinkLog};
use crate::peer::load::QueuedBytes;
use crate::peer::{Introduction, PeerAddress, gate};

/// The most messages of an envelope.
const ENVELOPE_MAX: usize = 128;
/// The size limit of these messages beyond the first, in bytes: an envelope is encoded as a whole.
const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// The most envelopes that wait for the connection.
const STREAM_MAX: usize = 16;
/// The pause before the next attempt to connect: at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// The interval of the measurements of the round-trip time: that of etcd's probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(4);
/// A call that has lasted this long was not refused.
const SETTLED: Duration = Duration::from_millis(200);

/// The task of one link.
pub(super) struct LinkTask {
    pub(super) me: Introduction,
    pub(super) address: PeerAddress,
    pub(super) addresses: watch::Receiver<PeerAddress>,
    pub(super) listener: PeerListener,
    pub(super) up: Arc<RwLock<HashMap<MemberId, bool>>>,
    pub(super) numbering: Arc<Numbering>,
    /// For https URLs.
    pub(super) tls: ClientTls,
    /// The URLs of the last successful connection.
    pub(super) reached: Vec<Url>,
    pub(super) link_log: LinkLog,
    /// The last connection ended because the peer did not respond.
    pub(super) silent: bool,
    pub(super) counts: Arc<LinkCounts>,
}

impl LinkTask {
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Queued>) {
        let peer = self.me.to;
        let mut retry = RETRY_MIN;
        loop {
            self.address = self.addresses.borrow_and_update().clone();
            match connect::connect(&self.address.urls, &self.tls).await {
                Ok(client) => {
                    let began = Instant::now();
                    let ended = self.carry(client, &mut messages).await;
                    self.note_up(false);
                    match ended {
                        Ended::QueueClosed => return,
                        Ended::Broken(status) => self.explain(&status, began.elapsed()),
                    }
                    if RETRY_MAX < began.elapsed() {
                        // Reconnects at once: a refusal at this point means that the process has
                        // ended.
                        retry = RETRY_MIN;
                        continue;
                    }
                }
                Err(ConnectError::Refused) => {
                    self.link_log.failed(&self.address, "connection refused");
                    // If the peer was never reached, a refusal does not show that its process has
                    // ended.
                    if self.reached == self.address.urls {
                        (self.listener)(PeerEvent::Down(peer));
                    }
                }
                Err(ConnectError::Other(why)) => self.link_log.failed(&self.address, &why),
            }
            // The waiting messages are stale by the time the peer is back.
            let mut is_lost = false;
            while messages.try_recv().is_ok() {
                self.counts.failures.add(1);
                is_lost = true;
            }
            if is_lost {
                (self.listener)(PeerEvent::Lost(peer));
            }
            let _ = tokio::time::timeout(retry, self.addresses.changed()).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    async fn carry(
        &mut self,
        mut client: PeerClient<tonic::transport::Channel>,
        messages: &mut mpsc::Receiver<Queued>,
    ) -> Ended {
        let (envelopes, stream) = mpsc::channel(STREAM_MAX);
        // An envelope is no longer counted once the connection has taken it.
        let stream =
            ReceiverStream::new(stream).map(|(envelope, _): (_, Vec<QueuedBytes>)| envelope);
        let mut request = Request::new(stream);
        self.me.write(request.metadata_mut());
        self.note_up(true);
        let probe = measure(client.clone(), Arc::clone(&self.counts));
        let call = client.stream(request);
        tokio::pin!(call, probe);
        // A peer refuses a call at once. For a stopped process, the kernel still accepts the
        // connection.
        let settled = match self.silent {
            true => connect::SILENCE,
            false => SETTLED,
        };
        let settled = tokio::time::sleep(settled);
        tokio::pin!(settled);
        let mut is_settled = false;
        loop {
            tokio::select! {
                answer = &mut call => {
                    return Ended::Broken(answer.err().unwrap_or_else(link_log::broken_off));
                }
                never = &mut probe => match never {},
                () = &mut settled, if !is_settled => {
                    is_settled = true;
                    self.reached.clone_from(&self.address.urls);
                    self.link_log.over(&self.address);
                }
                first = messages.recv() => {
                    let Some(first) = first else {
                        return Ended::QueueClosed;
                    };
                    let (batch, queued) = gather(first, messages);
                    let bytes: usize = queued.iter().map(|queued| queued.bytes).sum();
                    self.counts.sent_bytes.add(bytes as u64);
                    let sequence = self.numbering.next();
                    let envelope = Envelope { sequence, messages: batch };
                    tokio::select! {
                        answer = &mut call => {
                            return Ended::Broken(answer.err().unwrap_or_else(link_log::broken_off));
                        }
                        sent = envelopes.send((envelope, queued)) => if sent.is_err() {
                            return Ended::Broken(link_log::broken_off());
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
        } else if before == Some(true) {
            self.counts.disconnects.add(1);
            (self.listener)(PeerEvent::Lost(self.me.to));
        }
    }

    fn explain(&mut self, status: &Status, lasted: Duration) {
        let peer = self.me.to;
        if status.code() == Code::PermissionDenied && status.message() == gate::REMOVED {
            (self.listener)(PeerEvent::Removed);
        }
        let why = link_log::reason(status);
        self.silent = link_log::is_silence(status);
        match link_log::end_of(status, SETTLED <= lasted) {
            LinkEnd::Trouble => self.link_log.failed(&self.address, &why),
            LinkEnd::Deferred => debug!(%peer, why, "the peer defers the call"),
            LinkEnd::Lost => {
                info!(%peer, name = self.address.name, why, "lost the connection to the peer");
            }
        }
    }
}

/// Measures the round-trip time of a small call to the peer again and again. Never returns: the
/// stream notices when the peer is gone.
async fn measure(
    mut client: PeerClient<tonic::transport::Channel>,
    counts: Arc<LinkCounts>,
) -> Infallible {
    loop {
        let began = Instant::now();
        if client.members(MembersRequest::default()).await.is_ok() {
            counts.round_trips.observe(began.elapsed());
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

enum Ended {
    QueueClosed,
    Broken(Status),
}

/// Collects the messages that share an envelope with the first.
pub(super) fn gather(
    first: Queued,
    messages: &mut mpsc::Receiver<Queued>,
) -> (Vec<PeerMessage>, Vec<QueuedBytes>) {
    let mut bytes = first.1.bytes;
    let (mut batch, mut queued) = (vec![first.0], vec![first.1]);
    while batch.len() < ENVELOPE_MAX
        && bytes < ENVELOPE_BYTES_MAX
        && let Ok((message, count)) = messages.try_recv()
    {
        bytes += count.bytes;
        batch.push(message);
        queued.push(count);
    }
    (batch, queued)
}
