//! The incoming half: the gRPC service on the peer port.

use std::future::Future;

use keelson_core::MemberId;
use keelson_proto::peer::peer_server::Peer;
use keelson_proto::peer::{
    Envelope, MembersRequest, MembersResponse, PeerMessage, RaftMessage, SnapshotChunk,
    SnapshotReceived, StreamClosed, snapshot_chunk,
};
use tonic::{Request, Response, Status, Streaming};

use super::Introduction;
use super::gate::{self, Belonging, Gate, Taken};
use super::prove::Proofs;
use super::refusals::Refusals;
use crate::config::Url;

/// Where messages go. Called on the runtime's threads: it must not block.
pub trait Inbox: Send + Sync + 'static {
    /// Takes what `from` sent.
    fn deliver(&self, from: MemberId, messages: Vec<PeerMessage>);

    /// What this member holds of that id. Called for every envelope: it must be cheap.
    fn belonging(&self, member: MemberId) -> Belonging;

    /// The member's peer URLs.
    fn peer_urls(&self, member: MemberId) -> Vec<Url>;

    /// A call came from an id that is not among the members: they may have changed.
    fn note_unknown(&self, member: MemberId);

    /// The cluster, as far as this member has applied its log.
    fn members(&self) -> MembersResponse;
}

/// Where a snapshot goes, piece by piece.
pub trait SnapshotSink: Send + Sync + 'static {
    /// One snapshot being received. Dropping it before `finish` throws it away.
    type Staging: Send;

    /// Begins to receive. An error ends the call: another one is under way, say.
    fn begin(&self, offer: RaftMessage) -> Result<Self::Staging, Status>;

    /// Takes a piece.
    fn push(
        &self,
        staging: Self::Staging,
        part: snapshot_chunk::Part,
    ) -> impl Future<Output = Result<Self::Staging, Status>> + Send;

    /// Installs it, or finds it stale; returns when that is decided.
    fn finish(&self, staging: Self::Staging) -> impl Future<Output = Result<(), Status>> + Send;
}

/// The service.
pub struct PeerService<I, S> {
    gate: Gate,
    inbox: I,
    sink: S,
    /// This member's key.
    key: u64,
    proofs: Proofs,
    refusals: Refusals,
}

impl<I: Inbox, S: SnapshotSink> PeerService<I, S> {
    /// Serves what `gate` lets through.
    pub fn new(gate: Gate, inbox: I, sink: S, key: u64) -> PeerService<I, S> {
        PeerService {
            gate,
            inbox,
            sink,
            key,
            proofs: Proofs::default(),
            refusals: Refusals::default(),
        }
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
        let belonging = |member| self.inbox.belonging(member);
        if let Some(caller) = caller
            && self.gate.is_meant_by(&caller)
            && belonging(caller.from) == Belonging::Unknown
        {
            self.inbox.note_unknown(caller.from);
        }
        let caller = self.gate.admit(caller, belonging)?;
        if self.gate.is_proven(&caller) {
            return Ok(caller);
        }
        self.gate.keep(belonging);
        let urls = self.inbox.peer_urls(caller.from);
        self.proofs.prove(&caller, &urls).await?;
        self.gate.proven(&caller)?;
        tracing::info!(peer = %caller.from, start = caller.boot, "a peer's calls are verified");
        Ok(caller)
    }

    /// Whether the call of an admitted member may still go on.
    fn still_belongs(&self, caller: &Introduction) -> Result<(), Status> {
        gate::belongs(caller.from, self.inbox.belonging(caller.from))?;
        match self.gate.is_proven(caller) {
            true => Ok(()),
            false => Err(Status::unavailable(
                "the member has been started again since",
            )),
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
        let mut taken = Taken::default();
        while let Some(envelope) = envelopes.message().await? {
            self.still_belongs(&caller)?;
            if taken.take(envelope.sequence) {
                self.inbox.deliver(caller.from, envelope.messages);
            }
        }
        Ok(Response::new(StreamClosed {}))
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let mut answer = self.inbox.members();
        answer.key_is_mine = request.into_inner().key == self.key;
        Ok(Response::new(answer))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotReceived>, Status> {
        let caller = self.admit(&request).await?;
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.and_then(|chunk| chunk.part);
        let Some(snapshot_chunk::Part::Offer(offer)) = first else {
            return Err(Status::invalid_argument(
                "a snapshot must begin with its offer",
            ));
        };
        if offer.from != caller.from.0 {
            return Err(Status::invalid_argument(
                "an offer in another member's name",
            ));
        }
        let mut staging = self.sink.begin(offer)?;
        while let Some(chunk) = chunks.message().await? {
            let Some(part) = chunk.part else { continue };
            let is_end = matches!(part, snapshot_chunk::Part::End(_));
            staging = self.sink.push(staging, part).await?;
            if is_end {
                self.sink.finish(staging).await?;
                return Ok(Response::new(SnapshotReceived {}));
            }
        }
        Err(Status::data_loss(
            "the snapshot ended before its last piece",
        ))
    }
}
