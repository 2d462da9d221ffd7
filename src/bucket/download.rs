//! Downloads an object into a file, a range at a time: each request has its own time and retries.

use std::io::Write as _;
use std::path::Path;

use object_store::{GetOptions, GetRange, ObjectStore as _};
use tempfile::NamedTempFile;

use super::objects::failed;
use super::{Bucket, BucketError, BucketUrl};

/// The bytes of a request.
const RANGE_BYTES: u64 = 8 << 20;

/// Downloads an object into a new file of this directory, which is removed with the value. The
/// bytes of one request are in memory.
pub(crate) async fn download(url: &BucketUrl, dir: &Path) -> Result<NamedTempFile, BucketError> {
    copy(&Bucket::open(url)?, dir, RANGE_BYTES).await
}

async fn copy(bucket: &Bucket, dir: &Path, range: u64) -> Result<NamedTempFile, BucketError> {
    let url = &bucket.url;
    let key = object_store::path::Path::parse(&url.path);
    let key = key.map_err(|error| failed(url, &error.into()))?;
    let io = |error| BucketError::Copy(url.clone(), error);
    let mut file = NamedTempFile::with_prefix_in("keelson-snapshot-", dir).map_err(io)?;
    let (mut at, mut of) = (0, None);
    loop {
        let options = GetOptions {
            range: Some(GetRange::Bounded(at..at + range)),
            // The ranges are of one object, also if another one takes its name meanwhile.
            if_match: of.clone(),
            ..GetOptions::default()
        };
        let got = bucket.objects.get_opts(&key, options).await;
        let got = got.map_err(|error| failed(url, &error))?;
        let size = got.meta.size;
        of = of.or_else(|| got.meta.e_tag.clone());
        let bytes = got.bytes().await.map_err(|error| failed(url, &error))?;
        file.write_all(&bytes).map_err(io)?;
        at += bytes.len() as u64;
        if size <= at {
            file.flush().map_err(io)?;
            return Ok(file);
        }
        require_some(url, &bytes, at, size)?;
    }
}

/// The store answered with success and no bytes: the rest of the object would never come.
fn require_some(url: &BucketUrl, bytes: &[u8], at: u64, size: u64) -> Result<(), BucketError> {
    match bytes {
        [] => Err(BucketError::Objects {
            place: url.to_string(),
            cause: format!("the store sends no more after {at} of {size} bytes"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;

    use super::*;

    #[tokio::test]
    async fn an_object_becomes_a_file_and_a_missing_one_an_error() {
        let bucket = Bucket::in_memory("s3://b/x/one");
        let dir = tempfile::tempdir().unwrap();
        let key = object_store::path::Path::parse("x/one").unwrap();
        bucket.objects.put(&key, "some bytes".into()).await.unwrap();
        for range in [3, 5, 10, 11] {
            let file = copy(&bucket, dir.path(), range).await.unwrap();
            assert_eq!(std::fs::read(file.path()).unwrap(), b"some bytes");
        }
        bucket.objects.delete(&key).await.unwrap();
        let error = copy(&bucket, dir.path(), 5).await.unwrap_err().to_string();
        assert!(error.starts_with("s3://b/x/one: "), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// It became a short file.
    #[test]
    fn an_answer_without_bytes_is_an_error() {
        let url = BucketUrl::parse("s3://b/x").unwrap().unwrap();
        require_some(&url, b"b", 1, 10).unwrap();
        let error = require_some(&url, b"", 1, 10).unwrap_err().to_string();
        assert!(error.starts_with("s3://b/x: "), "{error}");
        assert!(error.ends_with("after 1 of 10 bytes"), "{error}");
    }
}
