//! Snapshots that are taken while a compaction sweeps many keys.

use std::path::Path;

use bytes::Bytes;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_tests::chaos::members::{Members, NOT_IN_SYNC, UNHEALTHY, done, id_of, unless_before};

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

/// The timeout of a writer's attempt. While a paused member is needed for the quorum, a put takes
/// longer than the writers of other tests wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// etcd's refusal of a compaction that was made before.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// Creates many keys and deletes them all; returns a revision from which on they do not exist.
async fn make_and_delete(url: &str, round: usize) -> Result<i64> {
    let kv = client::kv(url).await?;
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
        done(&[], || async { kv.clone().txn(request.clone()).await }).await?;
    }
    let request = DeleteRangeRequest {
        key: "swept/".into(),
        range_end: "swept0".into(),
        ..Default::default()
    };
    let delete = || async { kv.clone().delete_range(request.clone()).await };
    let deleted = done(&[], delete).await?.into_inner();
    Ok(deleted.header.context("a header")?.revision)
}

/// Returns when the sweep begins.
async fn compact(url: &str, revision: i64) -> Result<()> {
    let kv = client::kv(url).await?;
    let physical = false;
    let request = CompactionRequest { revision, physical };
    done(&[], || async {
        let compacted = kv.clone().compact(request).await.map(drop);
        unless_before(compacted, COMPACTED)
    })
    .await
}

/// A cluster whose members join while a compaction sweeps.
struct Sweeping {
    cluster: Cluster,
    /// Flags of every member.
    extra: Vec<String>,
    /// The number of the first leader.
    first: usize,
    /// Its client URL.
    url: String,
    fleet: Fleet,
}

impl Sweeping {
    async fn start(binary: &Path) -> Result<Sweeping> {
        let plan = Plan::new(binary, 3).cut_early();
        let cluster = Cluster::start(&plan).await?;
        let first = cluster.leader().await?;
        let url = cluster.members[first].client_url.clone();
        let fleet = Fleet::patient(std::slice::from_ref(&url), WRITERS, "beside/", PATIENCE);
        Ok(Sweeping {
            cluster,
            extra: plan.extra,
            first,
            url,
            fleet,
        })
    }

    async fn progress(&self, count: u64) -> Result<()> {
        let progress = self.fleet.progress(count, LIMIT).await;
        progress.with_context(|| format!("{count} writes"))
    }

    /// A member joins and is paused while its snapshot arrives. A learner's snapshot is begun
    /// during the sweep, a voter's before it.
    async fn join(&mut self, number: usize, round: usize, is_learner: bool) -> Result<()> {
        let members = Members::at(&self.url);
        let peer_url = self.cluster.members[number].peer_url.clone();
        let added = done(&[UNHEALTHY], || members.add_again(&peer_url, is_learner)).await;
        let id = added.context("member add")?;
        let before = self.cluster.members[number].log().len();
        let deleted = make_and_delete(&self.url, round).await;
        let deleted = deleted.context("make and delete")?;
        if is_learner {
            compact(&self.url, deleted).await.context("compact")?;
        }
        self.cluster.join(number, &self.extra)?;
        logged(&mut self.cluster.members[number], ARRIVING, before).await?;
        // It reads nothing meanwhile: the rest of its snapshot is made after further flushes.
        self.cluster.members[number].pause()?;
        if !is_learner {
            compact(&self.url, deleted).await.context("compact")?;
        }
        self.progress(300).await?;
        self.cluster.members[number].resume()?;
        if is_learner {
            let promoted = done(&[NOT_IN_SYNC], || members.promote_again(id)).await;
            promoted.context("member promote")?;
        }
        self.cluster.wait_ready(LIMIT).await
    }

    /// A member loses its disk and is removed.
    async fn lose(&mut self, number: usize, id: u64) -> Result<()> {
        self.cluster.kill(number);
        let members = Members::at(&self.url);
        let removed = done(&[], || members.remove_again(id)).await;
        removed.context("member remove")?;
        self.cluster.members[number].lose_disk()
    }
}

/// Neither a new learner nor a follower that lost its disk gets a deleted key back.
#[tokio::test]
async fn members_that_join_while_a_compaction_sweeps_are_equal() -> Result<()> {
    let ours = binary::ours()?;
    if ours.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let mut sweeping = Sweeping::start(&ours).await?;
    let wiped = (sweeping.first + 1) % 3;
    let wiped_id = id_of(&sweeping.cluster.members[wiped].client_url).await?;
    sweeping.progress(200).await?;

    let learner = sweeping.cluster.describe(&ours, "learner")?;
    let joined = sweeping.join(learner, 0, true).await;
    joined.with_context(|| format!("the learner\n{}", sweeping.cluster.log_tails()))?;
    let lost = sweeping.lose(wiped, wiped_id).await;
    lost.with_context(|| format!("the lost disk\n{}", sweeping.cluster.log_tails()))?;
    let joined = sweeping.join(wiped, 1, false).await;
    joined.with_context(|| format!("the wiped member\n{}", sweeping.cluster.log_tails()))?;
    let Sweeping { cluster, fleet, .. } = sweeping;
    let ledger = fleet.stop().await;
    let verdict = verify::verify(&cluster, &ledger, "beside/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
