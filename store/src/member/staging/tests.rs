//! Snapshots that are not installed.

use keelson_proto::peer::{RaftSnapshotMeta, Rows};

use super::*;
use crate::engine::StorageEngine;

fn offer(from: u64, index: u64) -> RaftMessage {
    RaftMessage {
        from,
        term: 2,
        snapshot: Some(RaftSnapshotMeta {
            index,
            term: 2,
            ..RaftSnapshotMeta::default()
        }),
        ..RaftMessage::default()
    }
}

/// The rows stayed until the next offer or the next start, even if a full disk was the cause.
#[tokio::test]
async fn a_snapshot_that_comes_to_nothing_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let generations = Generations::open(Arc::new(RealDisk), dir.path()).expect("it is empty");
    let shared = Arc::new(SharedSlot::default());
    let stager = Stager {
        generations: Arc::new(Mutex::new(generations)),
        options: EngineOptions {
            kind: StorageEngine::Lmdb,
            map_bytes: 1 << 30,
        },
        limits: Limits::default(),
        command_version: keelson_core::state::COMMAND_VERSION,
        executor: MemberExecutor::new(),
        slot: Arc::clone(&shared),
        in_use: crate::jobs::Jobs::default().token(),
    };
    let left = || dir.path().read_dir().expect("it is there").count();
    let (staging, _evicted) = stager.begin(offer(2, 90)).await.expect("it is free");
    assert_eq!(left(), 1);
    let rows = snapshot_chunk::Part::Rows(Rows::default());
    let staging = stager.push(staging, rows).await.expect("no rows");
    drop(staging);
    // The same sender retries until the slot is free.
    let taken = shared.take(Offer::of(&offer(2, 90))).await;
    let _slot = taken.expect("it was given up");
    assert_eq!(left(), 0);
}
