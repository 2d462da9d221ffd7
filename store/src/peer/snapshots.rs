//! Calls of their own: sending a snapshot, and asking a cluster for its members.

use std::time::Duration;

use keelson_core::MemberId;
use keelson_proto::peer::{
    MembersRequest, MembersResponse, RaftMessage, SnapshotChunk, snapshot_chunk,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::Links;
use super::connect::{self, ConnectError};
use crate::config::Url;

/// Pieces on their way. A piece is about a mebibyte; this bounds what a slow peer costs.
const PIECES_MAX: usize = 4;
/// A peer that takes no piece for this long is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sends `offer` and then every piece that `read` produces, on a connection of its own so that
/// heartbeats keep theirs. `read` runs on a thread that may block. Returns once the peer has
/// installed it, or found it stale.
///
/// # Errors
/// What went wrong, in words; the peer keeps nothing of it.
pub async fn send_snapshot(
    links: &Links,
    to: MemberId,
    offer: RaftMessage,
    read: impl FnOnce(&mut dyn FnMut(snapshot_chunk::Part) -> bool) + Send + 'static,
) -> Result<(), Status> {
    let urls = links
        .urls(to)
        .ok_or_else(|| Status::not_found("no such peer"))?;
    let mut client = connect::connect(&urls).await.map_err(|error| match error {
        ConnectError::Refused => Status::unavailable("connection refused"),
        ConnectError::Other(why) => Status::unavailable(why),
    })?;
    let (pieces, stream) = mpsc::channel(PIECES_MAX);
    let first = SnapshotChunk {
        part: Some(snapshot_chunk::Part::Offer(offer)),
    };
    let _ = pieces.send(first).await;
    let reader = tokio::task::spawn_blocking(move || {
        read(&mut |part| {
            pieces
                .blocking_send(SnapshotChunk { part: Some(part) })
                .is_ok()
        });
    });
    let mut request = Request::new(ReceiverStream::new(stream));
    links.introduction(to).write(request.metadata_mut());
    let sent = tokio::time::timeout(PATIENCE, client.snapshot(request)).await;
    let read = reader.await;
    sent.map_err(|_| Status::deadline_exceeded("the peer took too long"))??;
    read.map_err(|error| Status::internal(format!("reading the snapshot: {error}")))
}

/// Asks whoever listens at `urls` whom its cluster consists of.
///
/// # Errors
/// Why nobody answered.
pub async fn ask_members(urls: &[Url]) -> Result<MembersResponse, Status> {
    ask(urls, MembersRequest::default()).await
}

pub(super) async fn ask(urls: &[Url], request: MembersRequest) -> Result<MembersResponse, Status> {
    let mut client = connect::connect(urls).await.map_err(|error| match error {
        ConnectError::Refused => Status::unavailable("connection refused"),
        ConnectError::Other(why) => Status::unavailable(why),
    })?;
    let asked = client.members(request);
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer in 5 s"))?;
    Ok(answer?.into_inner())
}
