//! Uploads into memory, and into an upload that fails.

use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream;
use keelson_store::Error;
use object_store::PutResult;

use super::*;

type Piece = Result<SnapshotResponse, Error>;

/// A snapshot of so many bytes, in pieces, with its checksum as the last one.
fn snapshot(bytes: usize, piece: usize) -> Vec<Piece> {
    let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    let sum = Sha256::digest(&content);
    let mut left = bytes as u64;
    let mut pieces = Vec::new();
    for blob in content.chunks(piece).chain([&sum[..]]) {
        left = left.saturating_sub(blob.len() as u64);
        pieces.push(Ok(SnapshotResponse {
            remaining_bytes: left,
            blob: Bytes::copy_from_slice(blob),
            ..SnapshotResponse::default()
        }));
    }
    pieces
}

fn failed(error: object_store::Error) -> BucketError {
    super::failed(&Bucket::in_memory("s3://b").url, &error)
}

#[tokio::test]
async fn a_snapshot_is_one_object() {
    let bucket = Bucket::in_memory("s3://b/m1");
    let pieces = stream::iter(snapshot(100_000, 4_096));
    let bytes = upload(&bucket, "one", pieces, pending()).await.unwrap();
    assert_eq!(bytes, 100_032);
    let listed = bucket.list("o").await.unwrap();
    assert_eq!((&*listed[0].name, listed[0].bytes), ("one", 100_032));
}

#[tokio::test]
async fn nothing_appears_of_a_snapshot_that_fails_or_differs_or_is_stopped() {
    let bucket = Bucket::in_memory("s3://b/m1");
    let mut cut = snapshot(9_000, 4_096);
    cut.truncate(2);
    cut.push(Err(Error::Stopped));
    let mut wrong = snapshot(9_000, 4_096);
    if let Some(Ok(piece)) = wrong.first_mut() {
        piece.blob = Bytes::from_static(&[7; 4_096]);
    }
    let mut without_sum = snapshot(9_000, 4_096);
    without_sum.pop();
    for (pieces, expected) in [
        (cut, Error::Stopped.to_string()),
        (wrong, UploadError::Sum.to_string()),
        (without_sum, UploadError::Sum.to_string()),
        (Vec::new(), UploadError::Sum.to_string()),
    ] {
        let uploaded = upload(&bucket, "one", stream::iter(pieces), pending()).await;
        assert_eq!(uploaded.unwrap_err().to_string(), expected);
    }
    let stopped = upload(&bucket, "one", stream::pending(), ready(())).await;
    assert!(matches!(stopped, Err(UploadError::Stopped)), "{stopped:?}");
    assert!(bucket.list("o").await.unwrap().is_empty());
}

#[tokio::test]
async fn parts_have_one_size_and_together_are_the_snapshot() {
    for (bytes, piece, part) in [
        (1_000, 64, 100),
        (1_000, 300, 100),
        (640, 64, 64),
        (5, 64, 100),
    ] {
        let mut parts = Parts::new(stream::iter(snapshot(bytes, piece)), part);
        let (mut sizes, mut all) = (Vec::new(), Vec::new());
        loop {
            let pieces = parts.next().await.unwrap();
            if pieces.is_empty() {
                break;
            }
            sizes.push(pieces.iter().map(|piece| piece.len() as u64).sum::<u64>());
            all.extend(pieces.concat());
        }
        let last = sizes.pop().unwrap();
        assert!(
            last <= part && sizes.iter().all(|size| *size == part),
            "{sizes:?} {last}"
        );
        let expected = snapshot(bytes, piece).into_iter();
        let expected: Vec<u8> = expected.flat_map(|piece| piece.unwrap().blob).collect();
        assert_eq!(all, expected);
    }
}

#[test]
fn large_snapshots_have_larger_parts() {
    assert_eq!(part_bytes(2 << 30, PART_BYTES), PART_BYTES);
    let whole = 1 << 40;
    let part = part_bytes(whole, PART_BYTES);
    assert!(
        whole.div_ceil(part) <= PARTS_MAX && part < 5 << 30,
        "{part}"
    );
}

/// An upload whose part of this number fails.
#[derive(Debug)]
struct Failing {
    at: usize,
    parts: usize,
    completed: Arc<AtomicUsize>,
    aborted: Arc<AtomicUsize>,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'a>>;

impl MultipartUpload for Failing {
    fn put_part(&mut self, _: PutPayload) -> UploadPart {
        self.parts += 1;
        let fails = self.parts == self.at;
        Box::pin(ready(match fails {
            true => Err(object_store::Error::NotImplemented {
                operation: "a part".to_owned(),
                implementer: "Failing".to_owned(),
            }),
            false => Ok(()),
        }))
    }

    fn complete<'a, 'b>(&'a mut self) -> Answer<'b, PutResult>
    where
        'a: 'b,
        Self: 'b,
    {
        self.completed.fetch_add(1, Ordering::Relaxed);
        Box::pin(ready(Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })))
    }

    fn abort<'a, 'b>(&'a mut self) -> Answer<'b, ()>
    where
        'a: 'b,
        Self: 'b,
    {
        self.aborted.fetch_add(1, Ordering::Relaxed);
        Box::pin(ready(Ok(())))
    }
}

/// A stop dropped the request, and with it the id of the upload.
#[tokio::test]
async fn an_upload_that_begins_at_a_stop_is_given_up() {
    let place = Bucket::in_memory("s3://b/one").url;
    let (completed, aborted) = (Arc::default(), Arc::default());
    let upload: Box<dyn MultipartUpload> = Box::new(Failing {
        at: usize::MAX,
        parts: 0,
        completed: Arc::clone(&completed),
        aborted: Arc::clone(&aborted),
    });
    let (stopping, stop) = tokio::sync::oneshot::channel::<()>();
    let creating = async {
        drop(stopping);
        tokio::task::yield_now().await;
        Ok(upload)
    };
    let snapshot = stream::iter(snapshot(9_000, 4_096));
    let sent = transfer(&place, creating, snapshot, stop.map(drop)).await;
    assert!(matches!(sent, Err(UploadError::Stopped)), "{sent:?}");
    let counts = [&completed, &aborted].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [0, 1]);
}

#[tokio::test]
async fn an_upload_of_which_a_part_fails_is_not_completed() {
    // Six parts of 64 bytes or less; the seventh never comes.
    for (at, expected) in [(1, 0), (3, 0), (6, 0), (7, 1)] {
        let completed = Arc::new(AtomicUsize::new(0));
        let mut failing = Failing {
            at,
            parts: 0,
            completed: Arc::clone(&completed),
            aborted: Arc::default(),
        };
        let parts = Parts::new(stream::iter(snapshot(320, 50)), 64);
        let sent = send(&mut failing, parts, &failed).await;
        assert_eq!(sent.is_ok(), at == 7, "{sent:?}");
        assert_eq!(completed.load(Ordering::Relaxed), expected);
    }
}
