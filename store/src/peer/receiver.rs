//! The receiving half of the transport: the gRPC service on the peer port.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keelson_core::MemberId;
use keelson_core::member::{Membership, PIECE_TIMEOUT_MS};
use keelson_port::ClientTls;
use keelson_proto::etcdserverpb::{HashKvRequest, HashKvResponse};
use keelson_proto::peer::peer_server::Peer;
use keelson_proto::peer::{
    Envelope, MembersRequest, MembersResponse, PeerMessage, RaftMessage, SnapshotChunk,
    SnapshotReceived, StreamClosed, snapshot_chunk,
};
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::gate::{self, CallerGate, ReceivedNumbers};
use super::prove::Proofs;
use super::refusals::Refusals;
use super::{Introduction, TOKEN, TOKEN_USED};
use crate::config::Url;
use crate::edge::TokenSignature;
use crate::metrics::ReceivedSnapshots;

/// The receiver of messages. Called on the runtime's threads, so it must not block.
pub trait Inbox: Send + Sync + 'static {
    /// Takes messages from `from`.
    fn deliver(&self, from: MemberId, messages: Vec<PeerMessage>);

    /// The membership of that id. Called for every envelope, so it must be fast.
    fn membership_of(&self, member: MemberId) -> Membership;

    /// The member's peer URLs.
    fn peer_urls(&self, member: MemberId) -> Vec<Url>;

    /// Records a call from an unknown id: this member may lack a newer member.
    fn note_unknown(&self, member: MemberId);

    /// The member list, as of the applied state.
    fn members(&self) -> MembersResponse;

    /// The hash of the pairs at that revision.
    fn hash_kv(&self, revision: i64)
    -> impl Future<Output = Result<HashKvResponse, Status>> + Send;

    /// When this member has seen a use of that token last, since 1970.
    fn token_used(&self, token: &TokenSignature) -> Option<Duration>;
}

/// Resolves to `Ok` when a snapshot must end in favour of another one.
pub type Evicted = oneshot::Receiver<()>;

/// The longest pause between two chunks of a snapshot.
const CHUNK_TIMEOUT: Duration = Duration::from_millis(PIECE_TIMEOUT_MS);

/// The receiver of snapshots.
pub trait SnapshotSink: Send + Sync + 'static {
    /// A snapshot that is being received. Dropping it before `finish` discards it.
    type Staging: Send;

    /// Starts to receive a snapshot. An error ends the call, for example when another one is
    /// being received.
    fn begin(
        &self,
        offer: RaftMessage,
    ) -> impl Future<Output = Result<(Self::Staging, Evicted), Status>> + Send;

    /// Takes a chunk.
    fn push(
        &self,
        staging: Self::Staging,
        part: snapshot_chunk::Part,
    ) -> impl Future<Output = Result<Self::Staging, Status>> + Send;

    /// Installs the snapshot, or finds it stale. Returns after that.
    fn finish(&self, staging: Self::Staging) -> impl Future<Output = Result<(), Status>> + Send;
}

/// The gRPC service of the peer port.
pub struct PeerService<I, S> {
    gate: CallerGate,
    inbox: I,
    sink: S,
    /// The key of this member's incarnation.
    key: u64,
    proofs: Proofs,
    refusals: Refusals,
    received: Arc<ReceivedSnapshots>,
}

impl<I: Inbox, S: SnapshotSink> PeerService<I, S> {
    /// Serves the calls that `gate` admits.
    pub fn new(gate: CallerGate, inbox: I, sink: S, key: u64) -> PeerService<I, S> {
        PeerService {
            gate,
            inbox,
            sink,
            key,
            proofs: Proofs::default(),
            refusals: Refusals::default(),
            received: Arc::default(),
        }
    }

    /// Counts snapshots there.
    pub fn counting(mut self, received: Arc<ReceivedSnapshots>) -> PeerService<I, S> {
        self.received = received;
        self
    }

    /// Verifies callers with https URLs by this TLS.
    pub fn with_tls(mut self, tls: ClientTls) -> PeerService<I, S> {
        self.proofs = Proofs::new(tls);
        self
    }

    async fn admit<T>(&self, request: &Request<T>) -> Result<Introduction, Status> {
        let caller = Introduction::read(request.metadata());
        let admitted = self.judge(caller).await;
        if let Err(status) = &admitted {
            self.refusals.note(caller.map(|caller| caller.from), status);
        }
        admitted
    }

    async fn judge(&self, caller: Option<Introduction>) -> Result<Introduction, Status> {
        let membership_of = |member| self.inbox.membership_of(member);
        if let Some(caller) = caller
            && self.gate.is_meant_by(&caller)
            && membership_of(caller.from) == Membership::Unknown
        {
            self.inbox.note_unknown(caller.from);
        }
        let caller = self.gate.admit(caller, membership_of)?;
        if self.gate.is_proven(&caller) {
            return Ok(caller);
        }
        self.gate.keep(membership_of);
        let urls = self.inbox.peer_urls(caller.from);
        self.proofs.prove(&caller, &urls).await?;
        self.gate.proven(&caller)?;
        let (peer, start) = (caller.from, caller.incarnation);
        tracing::info!(%peer, start, "a peer's calls are verified");
        Ok(caller)
    }

    /// Checks that the caller is still a member of the cluster.
    fn still_belongs(&self, caller: &Introduction) -> Result<(), Status> {
        gate::belongs(caller.from, self.inbox.membership_of(caller.from))?;
        match self.gate.is_proven(caller) {
            true => Ok(()),
            false => Err(Status::unavailable("the member has been restarted since")),
        }
    }
}

#[tonic::async_trait]
impl<I: Inbox, S: SnapshotSink> Peer for PeerService<I, S> {
    async fn stream(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<StreamClosed>, Status> {
        let caller = self.admit(&request).await?;
        let mut envelopes = request.into_inner();
        let mut received = ReceivedNumbers::default();
        let broke = |_: &Status| self.received.stream_broke(caller.from);
        while let Some(envelope) = envelopes.message().await.inspect_err(broke)? {
            self.still_belongs(&caller)?;
            if received.take(envelope.sequence) {
                self.inbox.deliver(caller.from, envelope.messages);
            }
        }
        Ok(Response::new(StreamClosed {}))
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let token = request.metadata().get_bin(TOKEN);
        let token = token.and_then(|token| token.to_bytes().ok());
        let token = token.and_then(|token| TokenSignature::try_from(&token[..]).ok());
        let used = token.and_then(|token| self.inbox.token_used(&token));
        let mut answer = self.inbox.members();
        answer.key_is_mine = request.into_inner().key == self.key;
        let mut response = Response::new(answer);
        if let Some(used) = used {
            let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
            let used = MetadataValue::from(used);
            response.metadata_mut().insert(TOKEN_USED, used);
        }
        Ok(response)
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        Ok(Response::new(self.inbox.hash_kv(revision).await?))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotReceived>, Status> {
        let caller = self.admit(&request).await?;
        let counted = self.received.begin(caller.from);
        let received = self.receive(&caller, request.into_inner()).await;
        received.inspect_err(|status| log_failure(caller.from, status))?;
        counted.succeed();
        Ok(Response::new(SnapshotReceived {}))
    }
}

impl<I: Inbox, S: SnapshotSink> PeerService<I, S> {
    /// Receives a snapshot, with a timeout for each chunk.
    async fn receive(
        &self,
        caller: &Introduction,
        mut chunks: impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
    ) -> Result<(), Status> {
        let first = next_piece(&mut chunks).await?;
        let Some(snapshot_chunk::Part::Offer(offer)) = first else {
            return Err(Status::invalid_argument(
                "a snapshot must begin with its offer",
            ));
        };
        if offer.from != caller.from.0 {
            return Err(Status::invalid_argument("the offer names another member"));
        }
        let (staging, evicted) = self.sink.begin(offer).await?;
        tokio::select! {
            received = self.receive_pieces(caller, staging, chunks) => received,
            Ok(()) = evicted => Err(Status::aborted("the snapshot is replaced by another one")),
        }
    }

    async fn receive_pieces(
        &self,
        caller: &Introduction,
        mut staging: S::Staging,
        mut chunks: impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
    ) -> Result<(), Status> {
        while let Some(part) = next_piece(&mut chunks).await? {
            self.still_belongs(caller)?;
            let is_end = matches!(part, snapshot_chunk::Part::End(_));
            staging = self.sink.push(staging, part).await?;
            if is_end {
                return self.sink.finish(staging).await;
            }
        }
        Err(Status::data_loss(
            "the snapshot ended before its last piece",
        ))
    }
}

/// A snapshot that a newer one replaces has not failed.
fn log_failure(from: MemberId, status: &Status) {
    if status.code() != tonic::Code::Aborted {
        tracing::warn!(%from, why = status.message(), "receiving a snapshot failed");
    }
}

/// The next chunk; `None` at the end of the call.
async fn next_piece(
    chunks: &mut (impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin),
) -> Result<Option<snapshot_chunk::Part>, Status> {
    let coming = tokio::time::timeout(CHUNK_TIMEOUT, async {
        loop {
            match chunks.next().await.transpose()? {
                Some(SnapshotChunk { part: None }) => {}
                chunk => return Ok(chunk.and_then(|chunk| chunk.part)),
            }
        }
    });
    coming.await.unwrap_or_else(|_| {
        let seconds = CHUNK_TIMEOUT.as_secs();
        let why = format!("no piece of the snapshot came for {seconds} s");
        Err(Status::deadline_exceeded(why))
    })
}

#[cfg(test)]
mod tests;
