//! The unary and bulk calls to peers: sending a snapshot, and requesting the member list.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keelson_core::MemberId;
use keelson_port::ClientTls;
use keelson_proto::etcdserverpb::{HashKvRequest, HashKvResponse};
use keelson_proto::peer::{
    MembersRequest, MembersResponse, RaftMessage, SnapshotChunk, snapshot_chunk,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::connect::{self, ConnectError};
use super::{Links, TOKEN, TOKEN_USED};
use crate::config::Url;
use crate::edge::TokenSignature;

/// The timeout of a query for the use of a token, for which a client's request waits.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The most chunks in flight. A chunk has about 1 MiB, so this bounds the memory for a slow peer.
const CHUNKS_MAX: usize = 4;
/// A transfer fails when the peer takes no chunk for this long. Its total time has no limit.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout for the peer to install a snapshot that it has received completely.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// Sends `offer` and then every chunk that `read` produces, on a separate connection, so that
/// heartbeats are not delayed. `read` runs on a thread that may block. Returns once the peer has
/// installed the snapshot or found it stale.
///
/// # Errors
/// The cause, as text. The peer discards what it has received.
pub async fn send_snapshot(
    links: &Links,
    to: MemberId,
    offer: RaftMessage,
    read: impl FnOnce(&mut dyn FnMut(snapshot_chunk::Part) -> bool) + Send + 'static,
) -> Result<(), Status> {
    let urls = links
        .urls(to)
        .ok_or_else(|| Status::not_found("no such peer"))?;
    let mut client = connect::connect(&urls, links.tls())
        .await
        .map_err(|error| match error {
            ConnectError::Refused => Status::unavailable("connection refused"),
            ConnectError::Other(why) => Status::unavailable(why),
        })?;
    let (pieces, stream) = mpsc::channel(CHUNKS_MAX);
    let first = SnapshotChunk {
        part: Some(snapshot_chunk::Part::Offer(offer)),
    };
    let _ = pieces.send(first).await;
    let progress = Arc::new(Progress::default());
    let noted = Arc::clone(&progress);
    let reader = tokio::task::spawn_blocking(move || {
        read(&mut |part| {
            let sent = pieces.blocking_send(SnapshotChunk { part: Some(part) });
            noted.pieces.fetch_add(1, Ordering::Relaxed);
            sent.is_ok()
        });
        noted.all.store(true, Ordering::Relaxed);
    });
    let mut request = Request::new(ReceiverStream::new(stream));
    links.introduction(to).write(request.metadata_mut());
    let sent = progress.watch(client.snapshot(request)).await;
    let read = reader.await;
    sent?;
    read.map_err(|error| Status::internal(format!("reading the snapshot: {error}")))
}

/// The progress of a transfer.
#[derive(Default)]
struct Progress {
    pieces: AtomicU64,
    /// The last chunk has been queued.
    all: AtomicBool,
}

impl Progress {
    /// Waits for the end of the call, with a timeout for each chunk.
    async fn watch<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        tokio::pin!(call);
        loop {
            let before = self.pieces.load(Ordering::Relaxed);
            let all = self.all.load(Ordering::Relaxed);
            let patience = if all { INSTALL_TIMEOUT } else { CHUNK_TIMEOUT };
            let ended = tokio::time::timeout(patience, call.as_mut()).await;
            let moves = || {
                let news = all != self.all.load(Ordering::Relaxed);
                news || before != self.pieces.load(Ordering::Relaxed)
            };
            match ended {
                Ok(answer) => return answer,
                Err(_) if moves() => {}
                Err(_) => {
                    let why = format!("the peer took nothing for {} s", patience.as_secs());
                    return Err(Status::deadline_exceeded(why));
                }
            }
        }
    }
}

/// The longest wait for a member's hash: it reads all of its pairs.
const HASH_TIMEOUT: Duration = Duration::from_secs(600);

/// Requests the member list of the cluster at `urls`.
///
/// # Errors
/// Why no URL answered.
pub async fn request_members(urls: &[Url], tls: &ClientTls) -> Result<MembersResponse, Status> {
    request_from(urls, tls, MembersRequest::default()).await
}

/// When the member at these URLs has seen a use of the token last, since 1970. `None` without an
/// answer in a second, and from releases that do not have the query.
pub async fn request_token_use(
    urls: &[Url],
    tls: &ClientTls,
    token: &TokenSignature,
) -> Option<Duration> {
    let mut request = Request::new(MembersRequest::default());
    let token = MetadataValue::from_bytes(token);
    request.metadata_mut().insert_bin(TOKEN, token);
    let query = async {
        let mut client = connect::connect(urls, tls).await.ok()?;
        let answer = client.members(request).await.ok()?;
        let used = answer.metadata().get(TOKEN_USED)?.to_str().ok()?;
        Some(Duration::from_nanos(used.parse().ok()?))
    };
    tokio::time::timeout(QUERY_TIMEOUT, query).await.ok()?
}

/// The hash of the pairs of the member at these URLs, at that revision.
///
/// # Errors
/// Those of HashKV; `Unimplemented` from earlier releases; none of the URLs answers.
pub async fn request_hash_kv(
    urls: &[Url],
    tls: &ClientTls,
    revision: i64,
) -> Result<HashKvResponse, Status> {
    let request = HashKvRequest { revision };
    let query = async {
        let mut client = connect::connect(urls, tls)
            .await
            .map_err(|_| Status::unavailable("it does not answer"))?;
        Ok(client.hash_kv(request).await?.into_inner())
    };
    let answer = tokio::time::timeout(HASH_TIMEOUT, query).await;
    answer.map_err(|_| Status::deadline_exceeded("no hash in time"))?
}

pub(super) async fn request_from(
    urls: &[Url],
    tls: &ClientTls,
    request: MembersRequest,
) -> Result<MembersResponse, Status> {
    let mut client = connect::connect(urls, tls)
        .await
        .map_err(|error| match error {
            ConnectError::Refused => Status::unavailable("connection refused"),
            ConnectError::Other(why) => Status::unavailable(why),
        })?;
    let call = client.members(request);
    let answer = tokio::time::timeout(Duration::from_secs(5), call).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer in 5 s"))?;
    Ok(answer?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk every 50 s for 2,000 s, then none.
    #[tokio::test(start_paused = true)]
    async fn only_a_transfer_that_stands_still_is_given_up() {
        let progress = Progress::default();
        let began = tokio::time::Instant::now();
        let sending = async {
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                progress.pieces.fetch_add(1, Ordering::Relaxed);
            }
        };
        let call = std::future::pending::<Result<(), Status>>();
        let (sent, ()) = tokio::join!(progress.watch(call), sending);
        assert!(sent.is_err());
        assert!(Duration::from_secs(2_000) < began.elapsed());
    }
}
