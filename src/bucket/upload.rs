//! Uploads a snapshot while it is made. Two parts of it are in memory: one that is sent, and one
//! that fills.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use keelson_proto::etcdserverpb::SnapshotResponse;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload, UploadPart};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::objects::failed;
use super::{Bucket, BucketError, BucketUrl};

/// The bytes of a part of a snapshot of up to 72 GiB. S3 permits 5 MiB or more, but for the last.
const PART_BYTES: u64 = 8 << 20;
/// The parts of a larger snapshot. S3 permits 10,000 of one size.
const PARTS_MAX: u64 = 9_000;
/// How long a stop waits for an upload that is being begun: without its id it cannot be given up.
const BEGIN_MAX: Duration = Duration::from_secs(2);
/// The time for giving an upload up.
const ABORT_MAX: Duration = Duration::from_secs(2);
/// The bytes of the checksum that ends a snapshot.
const SUM_BYTES: usize = 32;

/// Why a snapshot is not in the bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(transparent)]
    Store(#[from] keelson_store::Error),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It was damaged on the way to the connection.
    #[error("what was sent differs from the snapshot's SHA-256")]
    Sum,
    /// The member stops.
    #[error("the upload was given up, since the member stops")]
    Stopped,
}

/// Uploads a snapshot under a name, which appears once all of it is there. Ends early when `stop`
/// does. Returns its size in bytes.
pub(crate) async fn upload(
    bucket: &Bucket,
    name: &str,
    snapshot: impl Stream<Item = Result<SnapshotResponse, keelson_store::Error>>,
    stop: impl Future<Output = ()>,
) -> Result<u64, UploadError> {
    let key = bucket.key(name)?;
    let place = bucket.url.join(name);
    transfer(&place, bucket.objects.put_multipart(&key), snapshot, stop).await
}

async fn transfer(
    place: &BucketUrl,
    creating: impl Future<Output = object_store::Result<Box<dyn MultipartUpload>>>,
    snapshot: impl Stream<Item = Result<SnapshotResponse, keelson_store::Error>>,
    stop: impl Future<Output = ()>,
) -> Result<u64, UploadError> {
    let (mut stop, snapshot) = (pin!(stop), pin!(snapshot));
    if stop.as_mut().now_or_never().is_some() {
        return Err(UploadError::Stopped);
    }
    let failed = |error: object_store::Error| failed(place, &error);
    let (mut upload, is_stopped) = begin(place, creating, stop.as_mut()).await?;
    let sent = match is_stopped {
        true => Err(UploadError::Stopped),
        false => tokio::select! {
            biased;
            () = stop => Err(UploadError::Stopped),
            sent = send(&mut *upload, Parts::new(snapshot, PART_BYTES), &failed) => sent,
        },
    };
    if sent.is_err() {
        match tokio::time::timeout(ABORT_MAX, upload.abort()).await {
            // The latter: it was completed at that moment, or the store gave it up.
            Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => {}
            _ => warn_of_parts(place),
        }
    }
    sent
}

/// Begins an upload. Returns whether the member stops as well; the upload is then to be given up.
async fn begin(
    place: &BucketUrl,
    creating: impl Future<Output = object_store::Result<Box<dyn MultipartUpload>>>,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<(Box<dyn MultipartUpload>, bool), UploadError> {
    let mut creating = pin!(creating);
    tokio::select! {
        biased;
        created = &mut creating => return match created {
            Ok(upload) => Ok((upload, false)),
            Err(error) => Err(failed(place, &error).into()),
        },
        () = stop => {}
    }
    match tokio::time::timeout(BEGIN_MAX, creating).await {
        Ok(Ok(upload)) => Ok((upload, true)),
        Ok(Err(_)) => Err(UploadError::Stopped),
        Err(_) => {
            warn_of_parts(place);
            Err(UploadError::Stopped)
        }
    }
}

fn warn_of_parts(place: &BucketUrl) {
    let rule = "AbortIncompleteMultipartUpload";
    warn!(%place, rule, "parts of an upload may be left in the bucket");
}

async fn send<S>(
    upload: &mut dyn MultipartUpload,
    mut parts: Parts<S>,
    failed: &impl Fn(object_store::Error) -> BucketError,
) -> Result<u64, UploadError>
where
    S: Stream<Item = Result<SnapshotResponse, keelson_store::Error>> + Unpin,
{
    let mut sum = SnapshotSum::default();
    let mut sending: UploadPart = Box::pin(std::future::ready(Ok(())));
    loop {
        let sent = async { sending.await.map_err(|error| failed(error).into()) };
        let ((), part) = tokio::try_join!(sent, parts.next())?;
        if part.is_empty() {
            break;
        }
        part.iter().for_each(|piece| sum.add(piece));
        sending = upload.put_part(part.into_iter().collect::<PutPayload>());
    }
    let bytes = sum.bytes;
    // Only a whole upload may become an object.
    if !sum.holds() {
        return Err(UploadError::Sum);
    }
    upload.complete().await.map_err(failed)?;
    Ok(bytes)
}

/// Cuts a snapshot into parts of equal size, without copying.
struct Parts<S> {
    snapshot: S,
    /// 0 until the first piece states the size of the whole.
    part_bytes: u64,
    part_bytes_min: u64,
    rest: Bytes,
}

impl<S> Parts<S>
where
    S: Stream<Item = Result<SnapshotResponse, keelson_store::Error>> + Unpin,
{
    fn new(snapshot: S, part_bytes_min: u64) -> Parts<S> {
        Parts {
            snapshot,
            part_bytes: 0,
            part_bytes_min,
            rest: Bytes::new(),
        }
    }

    /// The pieces of the next part; none at the end.
    async fn next(&mut self) -> Result<Vec<Bytes>, UploadError> {
        let (mut pieces, mut missing) = (Vec::new(), self.part_bytes);
        loop {
            if self.rest.is_empty() {
                let Some(piece) = self.snapshot.next().await else {
                    return Ok(pieces);
                };
                let piece = piece?;
                if self.part_bytes == 0 {
                    let whole = piece.remaining_bytes + piece.blob.len() as u64;
                    self.part_bytes = part_bytes(whole, self.part_bytes_min);
                    missing = self.part_bytes;
                }
                self.rest = piece.blob;
            }
            let fits = usize::try_from(missing).unwrap_or(usize::MAX);
            let piece = self.rest.split_to(self.rest.len().min(fits));
            missing -= piece.len() as u64;
            pieces.push(piece);
            if missing == 0 {
                return Ok(pieces);
            }
        }
    }
}

/// The size of the parts of a snapshot of so many bytes.
fn part_bytes(whole: u64, min: u64) -> u64 {
    whole.div_ceil(PARTS_MAX).max(min)
}

/// Compares the end of a snapshot with the SHA-256 of all before it.
#[derive(Default)]
struct SnapshotSum {
    sum: Sha256,
    /// The last bytes so far: the checksum, if nothing comes after them.
    end: Vec<u8>,
    bytes: u64,
}

impl SnapshotSum {
    fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let displaced = (self.end.len() + piece.len()).saturating_sub(SUM_BYTES);
        let displaced = displaced.min(self.end.len());
        self.sum.update(&self.end[..displaced]);
        self.end.drain(..displaced);
        let before = piece.len().saturating_sub(SUM_BYTES);
        self.sum.update(&piece[..before]);
        self.end.extend_from_slice(&piece[before..]);
    }

    fn holds(self) -> bool {
        self.end.len() == SUM_BYTES && self.sum.finalize()[..] == self.end[..]
    }
}

#[cfg(test)]
mod tests;
