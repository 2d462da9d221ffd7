//! `Maintenance.Snapshot` and `Maintenance.Hash`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::once;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use keelson_bolt::Builder;
use keelson_core::state::Capture;
use keelson_core::state::auth::{Access, Duty};
use keelson_proto::etcdserverpb::{HashResponse, SnapshotResponse};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::file::{self, FileError, Sink};
use crate::member::fatal::Fatal;
use crate::{Error, Store, version};

/// The bytes of a message.
const BLOB_BYTES: usize = 64 << 10;
/// The messages that may wait for the client.
const BLOBS_WAITING: usize = 4;
/// The snapshots and hashes that a member makes at a time: each has a thread, and holds
/// compactions back.
pub(crate) const SNAPSHOTS_MAX: usize = 4;
/// The longest wait for a client that reads nothing. Its snapshot then ends: it keeps compactions
/// from deleting rows.
const PATIENCE: Duration = Duration::from_secs(60);

type Messages = mpsc::Sender<SnapshotResponse>;
/// The outcome of all messages.
type End = oneshot::Sender<Result<(), Error>>;

fn failed(error: Error) -> oneshot::Receiver<Result<(), Error>> {
    let (end, ended) = oneshot::channel();
    // The other half is here.
    let _ = end.send(Err(error));
    ended
}

impl Store {
    /// The applied state as a database file of etcd, then its SHA-256. All is of one revision,
    /// while others are written; compactions delete no rows until the stream ends.
    ///
    /// # Errors
    /// Permission denied; `TooManyRequests` while [`SNAPSHOTS_MAX`] others are sent; `Stopped`.
    pub fn snapshot(&self) -> impl Stream<Item = Result<SnapshotResponse, Error>> + Send + use<> {
        let store = self.clone();
        let begun = async move {
            let (messages, blobs) = mpsc::channel(BLOBS_WAITING);
            // Not in the queue: a failure must be seen behind a full one as well. A part of a file
            // that ends like a whole one would be kept as a backup.
            let (end, ended) = oneshot::channel();
            let end = match store.begin_snapshot(messages, end).await {
                Ok(()) => ended,
                Err(error) => failed(error),
            };
            let end = end.map(|end| match end {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Err(error)),
                Err(_) => Some(Err(Error::Internal("the snapshot was cut off".to_owned()))),
            });
            let end = once(end).filter_map(std::future::ready);
            ReceiverStream::new(blobs).map(Ok).chain(end)
        };
        once(begun).flatten()
    }

    async fn begin_snapshot(&self, messages: Messages, end: End) -> Result<(), Error> {
        self.view().require_unfenced()?;
        self.authorize_now(Access::Duty(Duty::Backup)).await?;
        let slot = self.snapshot_slot()?;
        let capture = self.capture().await?;
        tracing::info!(revision = capture.revision(), "sending a snapshot");
        let (metrics, began) = (Arc::clone(&self.inner.metrics), Instant::now());
        let fatal = self.inner.storage.fatal.clone();
        self.inner.shared.jobs.spawn_blocking(move || {
            let _slot = slot;
            let sent = send(capture, &messages).map_err(|error| {
                tracing::warn!(%error, "a snapshot was not sent whole");
                end_of_read(&fatal, &error)
            });
            metrics.sent_files.observe(began.elapsed());
            // The client may have gone.
            let _ = end.send(sent);
        });
        Ok(())
    }

    /// One of the reads of the whole state that a member does at a time.
    pub(crate) fn snapshot_slot(&self) -> Result<OwnedSemaphorePermit, Error> {
        let slots = Arc::clone(&self.inner.snapshot_slots);
        let slot = slots.try_acquire_owned();
        slot.map_err(|_| Error::TooManyRequests)
    }

    /// etcd's hash of the whole database. It differs between members of different releases; HashKV
    /// compares members.
    ///
    /// # Errors
    /// Permission denied, `Stopped`, `TooManyRequests` as for [`Store::snapshot`].
    pub async fn hash(&self) -> Result<HashResponse, Error> {
        self.authorize_now(Access::Duty(Duty::Monitor)).await?;
        let slot = self.snapshot_slot()?;
        let capture = self.capture().await?;
        let began = Instant::now();
        let hashing = self.inner.shared.jobs.spawn_blocking(move || {
            let _slot = slot;
            file::hash(capture)
        });
        let hashed = hashing
            .await
            .map_err(|error| Error::Internal(error.to_string()))?;
        let hash = hashed.map_err(|error| end_of_read(&self.inner.storage.fatal, &error))?;
        self.inner.metrics.whole_hashes.observe(began.elapsed());
        Ok(HashResponse {
            header: self.header(),
            hash,
        })
    }
}

/// The answer to a read of the whole state that has failed. A storage engine that fails, or has a
/// damaged row, ends the member.
fn end_of_read(fatal: &Fatal, error: &FileError) -> Error {
    if matches!(error, FileError::Engine(_) | FileError::Row(_)) {
        fatal.raise("reading the whole state", error);
    }
    Error::Internal(error.to_string())
}

/// Sends the file and its checksum. Blocks the thread.
fn send(capture: Capture, messages: &Messages) -> Result<(), FileError> {
    let layout = file::plan(&capture)?;
    let mut sender = BlobSender {
        messages,
        sum: Sha256::new(),
        left: layout.bytes(),
    };
    let mut rest = file::write(capture, layout, &mut sender)?;
    while !rest.is_empty() {
        let blob = rest.split_to(BLOB_BYTES.min(rest.len()));
        sender.send_part(blob)?;
    }
    let sum = Bytes::copy_from_slice(&std::mem::take(&mut sender.sum).finalize());
    sender.send(sum)
}

/// Cuts the file into messages.
struct BlobSender<'a> {
    messages: &'a Messages,
    sum: Sha256,
    /// The bytes of the file that are still to be sent: like etcd's, without the checksum.
    left: u64,
}

impl Sink for BlobSender<'_> {
    fn drain(&mut self, builder: &mut Builder) -> Result<(), FileError> {
        while BLOB_BYTES <= builder.waiting() {
            self.send_part(builder.take(BLOB_BYTES))?;
        }
        Ok(())
    }
}

impl BlobSender<'_> {
    fn send_part(&mut self, blob: Bytes) -> Result<(), FileError> {
        self.sum.update(&blob);
        self.send(blob)
    }

    fn send(&mut self, blob: Bytes) -> Result<(), FileError> {
        self.left = self.left.saturating_sub(blob.len() as u64);
        let message = SnapshotResponse {
            header: None,
            remaining_bytes: self.left,
            blob,
            version: version::CLUSTER.to_owned(),
        };
        let sent = self.messages.send_timeout(message, PATIENCE);
        Handle::current()
            .block_on(sent)
            .map_err(|_| FileError::Left)
    }
}
