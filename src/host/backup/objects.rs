//! Scheduled snapshots in a bucket.

use std::pin::pin;
use std::time::SystemTime;

use futures_util::{Stream, stream};
use keelson_proto::etcdserverpb::SnapshotResponse;
use tokio::runtime::{Builder, Handle};

use super::{BackupError, Saved, name};
use crate::bucket::{Bucket, BucketUrl, Listed, upload};

type Piece = Result<SnapshotResponse, keelson_store::Error>;

/// Opens the bucket for one task: connections and credentials are not kept until the next.
pub(super) fn open(url: &BucketUrl) -> Result<Bucket, BackupError> {
    Ok(Bucket::open(url)?)
}

/// The time of the newest snapshot.
pub(super) async fn newest(bucket: &Bucket) -> Result<Option<SystemTime>, BackupError> {
    let listed = bucket.list(name::PREFIX).await?;
    let newest = name::newest(listed.iter().map(|one| &*one.name));
    let newest = newest.and_then(|newest| listed.iter().find(|one| one.name == newest));
    Ok(newest.map(|one| one.since))
}

/// Saves a snapshot, on a thread and a runtime of its own: each part of 8 MiB is hashed in one
/// piece, and a thread of the member would serve no connection meanwhile.
pub(super) async fn save(
    open: impl FnOnce() -> Result<Bucket, BackupError> + Send + 'static,
    snapshot: impl Stream<Item = Piece> + Send + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Saved, BackupError> {
    let member = Handle::current();
    let saved = tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let saved = match open() {
            Ok(bucket) => runtime.block_on(transfer(&bucket, within(member, snapshot), stop)),
            Err(error) => Err(error),
        };
        // A query of a host name may still wait.
        runtime.shutdown_background();
        saved
    });
    saved.await?
}

/// The snapshot's own tasks and times belong to the member's runtime.
fn within(member: Handle, snapshot: impl Stream<Item = Piece>) -> impl Stream<Item = Piece> {
    let mut snapshot = Box::pin(snapshot);
    stream::poll_fn(move |context| {
        let _within = member.enter();
        snapshot.as_mut().poll_next(context)
    })
}

/// Uploads a snapshot, and compares what the bucket lists with what was sent.
async fn transfer(
    bucket: &Bucket,
    snapshot: impl Stream<Item = Piece>,
    stop: impl Future<Output = ()>,
) -> Result<Saved, BackupError> {
    let (name, mut stop) = (name::now(), pin!(stop));
    let bytes = upload(bucket, &name, snapshot, &mut stop).await?;
    let place = bucket.address(&name);
    let listed = tokio::select! {
        () = stop => return Ok(Saved { place, bytes }),
        listed = bucket.list(&name) => listed,
    };
    let is_listed = |one: &Listed| one.name == name && one.bytes == bytes;
    match listed {
        Ok(listed) if !listed.iter().any(is_listed) => {
            Err(BackupError::NotListed { place, sent: bytes })
        }
        // The object is whole. A list that fails here fails when older ones are removed, too.
        _ => Ok(Saved { place, bytes }),
    }
}

/// Removes the oldest snapshots, so that `keep` are left.
pub(super) async fn prune(bucket: &Bucket, keep: usize) -> Result<(), BackupError> {
    let listed = bucket.list(name::PREFIX).await?;
    for name in name::superfluous(listed.iter().map(|one| &*one.name), keep) {
        bucket.remove(name).await?;
    }
    Ok(())
}
