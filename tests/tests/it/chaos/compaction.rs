//! Snapshots that are taken while a compaction sweeps many keys.

use bytes::Bytes;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_tests::chaos::members::{Members, NOT_IN_SYNC, UNHEALTHY, done, id_of};

use super::membership::{ARRIVING, logged};
use super::*;

/// The puts of one transaction, etcd's bound.
const PUTS: u32 = 128;

/// The number of transactions with keys that the sweep has to remove.
const BATCHES: u32 = 100;

/// Bytes of a value: all values together exceed what can be in flight to a member that does not
/// read.
const VALUE_BYTES: usize = 1 << 10;

/// The number of writers beside the sweep.
const WRITERS: usize = 4;

/// With these the log is truncated early: a member that joins needs a snapshot.
const CUT_EARLY: [&str; 2] = ["--snapshot-count=100", "--snapshot-catchup-entries=10"];

/// Creates many keys and deletes them all; returns the revision of the deletion.
async fn make_and_delete(url: &str, round: usize) -> Result<i64> {
    let mut kv = client::kv(url).await?;
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    for batch in 0..BATCHES {
        let put = |number| PutRequest {
            key: format!("swept/{round}/{batch:04}/{number:03}").into(),
            value: value.clone(),
            ..Default::default()
        };
        let success = (0..PUTS).map(|number| RequestOp {
            request: Some(Request::RequestPut(put(number))),
        });
        let request = TxnRequest {
            success: success.collect(),
            ..Default::default()
        };
        kv.txn(request).await?;
    }
    let request = DeleteRangeRequest {
        key: "swept/".into(),
        range_end: "swept0".into(),
        ..Default::default()
    };
    let deleted = kv.delete_range(request).await?.into_inner();
    ensure!(deleted.deleted == i64::from(BATCHES * PUTS));
    Ok(deleted.header.context("a header")?.revision)
}

/// Returns when the sweep begins.
async fn compact(url: &str, revision: i64) -> Result<()> {
    let physical = false;
    let request = CompactionRequest { revision, physical };
    client::kv(url).await?.compact(request).await?;
    Ok(())
}

/// Neither a new learner nor a follower that lost its disk gets a deleted key back.
#[tokio::test]
async fn members_that_join_while_a_compaction_sweeps_are_equal() -> Result<()> {
    let ours = binary::ours()?;
    if ours.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let extra = CUT_EARLY.map(str::to_owned).to_vec();
    let plan = CUT_EARLY
        .into_iter()
        .fold(Plan::new(&ours, 3), |plan, flag| plan.flag(flag));
    let mut cluster = Cluster::start(&plan).await?;
    let leader = cluster.leader().await?;
    let url = cluster.members[leader].client_url.clone();
    let members = Members::at(&url);
    let wiped = (leader + 1) % 3;
    let wiped_id = id_of(&cluster.members[wiped].client_url).await?;
    let fleet = Fleet::start(std::slice::from_ref(&url), WRITERS, "beside/");
    fleet.progress(200, LIMIT).await?;

    let learner = cluster.describe(&ours, "learner")?;
    for (round, joining) in [learner, wiped].into_iter().enumerate() {
        let is_learner = joining == learner;
        if !is_learner {
            cluster.kill(wiped);
            members.remove(wiped_id).await?;
            cluster.members[wiped].lose_disk()?;
        }
        let peer_url = cluster.members[joining].peer_url.clone();
        let id = done(&[UNHEALTHY], || members.add(&peer_url, is_learner)).await?;
        let before = cluster.members[joining].log().len();
        let deleted = make_and_delete(&url, round).await?;
        // The learner's snapshot is begun during the sweep, the other one before it.
        if is_learner {
            compact(&url, deleted).await?;
        }
        cluster.join(joining, &extra)?;
        logged(&cluster.members[joining], ARRIVING, before).await?;
        // It reads nothing meanwhile: the rest of its snapshot is made after further flushes.
        cluster.members[joining].pause()?;
        if !is_learner {
            compact(&url, deleted).await?;
        }
        fleet.progress(300, LIMIT).await?;
        cluster.members[joining].resume()?;
        if is_learner {
            done(&[NOT_IN_SYNC], || members.promote(id)).await?;
        }
        cluster.wait_ready(LIMIT).await?;
    }
    let ledger = fleet.stop().await;
    let verdict = verify::verify(&cluster, &ledger, "beside/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
