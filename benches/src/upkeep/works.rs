//! The works themselves: calls of the first member.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use keelson_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, PutRequest, SnapshotRequest,
};
use keelson_tests::proc::client;

use super::plan::{Plan, Work};
use crate::bulk::calls;
use crate::cluster::wire;

/// Puts all keys.
///
/// # Errors
/// The server refuses.
pub async fn put_all(plan: &Plan, url: &str) -> Result<()> {
    let keys = (0..plan.keys).map(|number| (Bytes::from(format!("/upkeep/{number:09}")), 0));
    calls::put_all(url, keys, plan.value_bytes).await
}

/// What a work needs beside what the ones before left.
///
/// # Errors
/// The server refuses.
pub async fn prepare(plan: &Plan, work: Work, url: &str) -> Result<()> {
    match work {
        Work::Snapshot => Ok(()),
        // All of them have two revisions then, of which the compaction deletes the first.
        Work::Compaction => put_all(plan, url).await,
        Work::Defragmentation => Ok(()),
    }
}

/// Has the member do the work; the bytes of its answer.
///
/// # Errors
/// The server refuses, or its answer is too short for its keys.
pub async fn work(plan: &Plan, work: Work, url: &str) -> Result<u64> {
    let wire = wire::open(url).await?;
    match work {
        Work::Snapshot => {
            let bytes = calls::call(wire, url, "Maintenance/Snapshot", &SnapshotRequest {}).await?;
            let least = plan.keys * plan.value_bytes;
            ensure!(least as u64 <= bytes, "a snapshot of {bytes} bytes");
            Ok(bytes)
        }
        Work::Compaction => {
            let compaction = CompactionRequest {
                revision: revision(url).await?,
                physical: true,
            };
            calls::call(wire, url, "KV/Compact", &compaction).await
        }
        Work::Defragmentation => {
            calls::call(wire, url, "Maintenance/Defragment", &DefragmentRequest {}).await
        }
    }
}

/// The store's revision.
async fn revision(url: &str) -> Result<i64> {
    let put = PutRequest {
        key: Bytes::from_static(b"/upkeep-revision"),
        ..PutRequest::default()
    };
    let answer = client::kv(url).await?.put(put).await?.into_inner();
    Ok(answer
        .header
        .context("an answer without a header")?
        .revision)
}
