//! The snapshot that a command reads: a file, or an object of a bucket, which is downloaded first.

use std::path::{Path, PathBuf};

use clap::Args;
use keelson_store::snapshot::{InputError, SnapshotFile};
use tempfile::NamedTempFile;

use crate::bucket::{BucketError, BucketUrl};

#[derive(Debug, Args)]
pub(super) struct Input {
    /// The snapshot: a file, or s3://BUCKET/PATH.
    file: PathBuf,
}

/// Why a snapshot cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Input(#[from] InputError),
}

/// An open snapshot.
pub(super) struct OpenSnapshot {
    pub(super) file: SnapshotFile,
    /// Removed with the value.
    _copy: Option<NamedTempFile>,
}

impl Input {
    /// Opens it. The copy of an object is made in `dir`.
    pub(super) async fn open(&self, dir: &Path) -> Result<OpenSnapshot, OpenError> {
        let url = self.file.to_str().and_then(BucketUrl::parse);
        let copy = match url.transpose()? {
            Some(url) => Some(download(&url, dir).await?),
            None => None,
        };
        let path = copy.as_ref().map_or(&*self.file, NamedTempFile::path);
        Ok(OpenSnapshot {
            file: SnapshotFile::open(path)?,
            _copy: copy,
        })
    }
}

#[cfg(feature = "s3")]
use crate::bucket::download;

#[cfg(not(feature = "s3"))]
async fn download(url: &BucketUrl, _: &Path) -> Result<NamedTempFile, BucketError> {
    Err(BucketError::NotBuilt(url.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_is_a_file_and_a_malformed_bucket_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = async |file: &str| {
            let file = PathBuf::from(file);
            Input { file }
                .open(dir.path())
                .await
                .err()
                .unwrap()
                .to_string()
        };
        assert!(open("none.db").await.starts_with("cannot read none.db"));
        assert!(open("s3:///none.db").await.contains("s3://BUCKET/PATH"));
    }
}
