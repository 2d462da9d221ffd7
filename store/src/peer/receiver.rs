//! The incoming half: the gRPC service on the peer port.

use std::future::Future;
use std::sync::Arc;

use keelson_core::MemberId;
use keelson_proto::peer::peer_server::Peer;
use keelson_proto::peer::{
    Envelope, MembersRequest, MembersResponse, PeerMessage, RaftMessage, SnapshotChunk,
    SnapshotReceived, StreamClosed, snapshot_chunk,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Gate, Introduction};

/// Where messages go. Called on the runtime's threads: it must not block.
pub trait Inbox: Send + Sync + 'static {
    /// Takes what `from` sent.
    fn deliver(&self, from: MemberId, messages: Vec<PeerMessage>);

    /// Whether that member was removed for good.
    fn is_removed(&self, member: MemberId) -> bool;

    /// The cluster as this member knows it.
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
    gate: Arc<Gate>,
    inbox: Arc<I>,
    sink: Arc<S>,
}

impl<I: Inbox, S: SnapshotSink> PeerService<I, S> {
    /// Serves what `gate` lets through.
    pub fn new(gate: Arc<Gate>, inbox: Arc<I>, sink: Arc<S>) -> PeerService<I, S> {
        PeerService { gate, inbox, sink }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<Introduction, Status> {
        let caller = Introduction::read(request.metadata());
        self.gate
            .admit(caller, |member| self.inbox.is_removed(member))
    }
}

#[tonic::async_trait]
impl<I: Inbox, S: SnapshotSink> Peer for PeerService<I, S> {
    async fn stream(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<StreamClosed>, Status> {
        let caller = self.admit(&request)?;
        let mut envelopes = request.into_inner();
        while let Some(envelope) = envelopes.message().await? {
            if self.gate.take(caller.from, caller.boot, envelope.sequence) {
                self.inbox.deliver(caller.from, envelope.messages);
            }
        }
        Ok(Response::new(StreamClosed {}))
    }

    async fn members(
        &self,
        _request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Ok(Response::new(self.inbox.members()))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotReceived>, Status> {
        let caller = self.admit(&request)?;
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
