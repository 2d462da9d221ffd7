//! Snapshots that are not installed.

use std::sync::atomic::Ordering;

use keelson_core::engine::Table;
use keelson_proto::peer::{RaftSnapshotMeta, Row, Rows};

use super::super::full_disk::Filling;
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

fn stager(dir: &std::path::Path) -> Stager {
    let generations = Generations::open(Arc::new(RealDisk), dir).expect("a directory of it");
    Stager {
        generations: Arc::new(Mutex::new(generations)),
        options: EngineOptions {
            kind: StorageEngine::Lmdb,
            map_bytes: 1 << 30,
        },
        limits: Limits::default(),
        command_version: keelson_core::state::COMMAND_VERSION,
        executor: MemberExecutor::new(),
        slot: Arc::default(),
        in_use: crate::jobs::Jobs::default().token(),
    }
}

/// The rows stayed until the next offer or the next start, even if a full disk was the cause.
#[tokio::test]
async fn a_snapshot_that_comes_to_nothing_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let stager = stager(dir.path());
    let left = || dir.path().read_dir().expect("it is there").count();
    let (staging, _evicted) = stager.begin(offer(2, 90)).await.expect("it is free");
    assert_eq!(left(), 1);
    let rows = snapshot_chunk::Part::Rows(Rows::default());
    let staging = stager.push(staging, rows).await.expect("no rows");
    drop(staging);
    // The same sender retries until the slot is free.
    let taken = stager.slot.take(Offer::of(&offer(2, 90))).await;
    let _slot = taken.expect("it was given up");
    assert_eq!(left(), 0);
}

/// Rows of 8 MiB.
fn rows(number: u8) -> snapshot_chunk::Part {
    let row = Row {
        key: vec![number; 17].into(),
        value: vec![7; 8 << 20].into(),
    };
    snapshot_chunk::Part::Rows(Rows {
        table: Table::Key as u32,
        rows: vec![row],
    })
}

#[tokio::test]
async fn a_snapshot_without_room_is_refused_by_name_and_the_next_one_is_received() {
    let dir = tempfile::tempdir().expect("a directory");
    let stager = stager(dir.path());
    let (mut staging, _evicted) = stager.begin(offer(2, 90)).await.expect("it is free");
    let engine = Filling::default();
    engine.is_full.store(true, Ordering::SeqCst);
    staging.builder = Some(SnapshotBuilder::new(Arc::new(engine)));
    let refused = stager.push(staging, rows(1)).await.err().expect("no room");
    let text = refused.message();
    assert!(text.contains("no space left on the device"), "{text}");
    let taken = stager.slot.take(Offer::of(&offer(2, 90))).await;
    drop(taken.expect("it was given up"));
    assert_eq!(dir.path().read_dir().expect("it is there").count(), 0);
    let (staging, _evicted) = stager.begin(offer(2, 90)).await.expect("it is free");
    let staging = stager.push(staging, rows(1)).await.expect("there is room");
    assert!(stager.push(staging, rows(2)).await.is_ok());
}
