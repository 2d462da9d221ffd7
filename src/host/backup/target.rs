//! Where scheduled snapshots are saved: a directory, or a bucket.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use keelson_store::Store;
use keelson_store::internals::disk::RealDisk;

#[cfg(feature = "s3")]
use super::objects;
use super::{BackupError, Saved, directory};
use crate::bucket::{BucketError, BucketUrl};

/// A place for snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BackupTarget {
    /// A directory of this host.
    Directory(PathBuf),
    /// `s3://BUCKET/PREFIX`.
    Bucket(BucketUrl),
}

impl BackupTarget {
    /// Parses the value of `--backup-dir`, and checks it as far as that takes no request.
    pub(crate) fn parse(text: &str) -> Result<BackupTarget, BucketError> {
        let Some(url) = BucketUrl::parse(text) else {
            return Ok(BackupTarget::Directory(PathBuf::from(text)));
        };
        let url = url?;
        url.check()?;
        Ok(BackupTarget::Bucket(url))
    }

    /// The time of the newest snapshot, if there is one.
    pub(super) async fn newest(&self) -> Result<Option<SystemTime>, BackupError> {
        match self {
            BackupTarget::Directory(dir) => {
                let dir = dir.clone();
                let newest = tokio::task::spawn_blocking(move || directory::newest(&dir));
                Ok(newest.await??)
            }
            #[cfg(feature = "s3")]
            BackupTarget::Bucket(url) => objects::newest(&objects::open(url)?).await,
            #[cfg(not(feature = "s3"))]
            BackupTarget::Bucket(url) => Err(BucketError::NotBuilt(url.clone()).into()),
        }
    }

    /// Saves a snapshot. Ends early when `stop` does.
    pub(super) async fn save(
        &self,
        store: &Store,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Saved, BackupError> {
        match self {
            BackupTarget::Directory(dir) => directory::save(RealDisk, store, dir, stop).await,
            #[cfg(feature = "s3")]
            BackupTarget::Bucket(url) => {
                let url = url.clone();
                objects::save(move || objects::open(&url), store.snapshot(), stop).await
            }
            #[cfg(not(feature = "s3"))]
            BackupTarget::Bucket(url) => Err(BucketError::NotBuilt(url.clone()).into()),
        }
    }

    /// Removes the oldest snapshots, so that `keep` are left.
    pub(super) async fn prune(&self, keep: usize) -> Result<(), BackupError> {
        match self {
            BackupTarget::Directory(dir) => {
                let dir = dir.clone();
                let pruned = tokio::task::spawn_blocking(move || directory::prune(&dir, keep));
                Ok(pruned.await??)
            }
            #[cfg(feature = "s3")]
            BackupTarget::Bucket(url) => objects::prune(&objects::open(url)?, keep).await,
            #[cfg(not(feature = "s3"))]
            BackupTarget::Bucket(url) => Err(BucketError::NotBuilt(url.clone()).into()),
        }
    }
}

impl fmt::Display for BackupTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupTarget::Directory(dir) => dir.display().fmt(f),
            BackupTarget::Bucket(url) => url.fmt(f),
        }
    }
}
