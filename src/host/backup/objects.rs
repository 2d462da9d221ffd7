//! Scheduled snapshots in a bucket.

use std::time::SystemTime;

use futures_util::Stream;
use keelson_proto::etcdserverpb::SnapshotResponse;

use super::{BackupError, Saved, name};
use crate::bucket::{Bucket, BucketUrl, Listed, upload};

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

/// Saves a snapshot, and compares what the bucket lists with what was sent.
pub(super) async fn save(
    bucket: &Bucket,
    snapshot: impl Stream<Item = Result<SnapshotResponse, keelson_store::Error>>,
    stop: impl Future<Output = ()>,
) -> Result<Saved, BackupError> {
    let name = name::now();
    let bytes = upload(bucket, &name, snapshot, stop).await?;
    let place = bucket.address(&name);
    let listed = bucket.list(name::PREFIX).await?;
    let is_listed = |one: &Listed| one.name == name && one.bytes == bytes;
    match listed.iter().any(is_listed) {
        true => Ok(Saved { place, bytes }),
        false => Err(BackupError::NotListed { place, sent: bytes }),
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
