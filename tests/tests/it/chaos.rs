//! Real processes under faults: kill -9, SIGTERM, SIGSTOP, no quorum, a member that lags.
//!
//! Times are printed, and checked only against bounds that only a hang exceeds. `KEELSON_BIN` runs
//! the tests on another server; `KEELSON_SOAK=1` makes them as long as before a release.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
use keelson_tests::chaos::kill_two::{self, Victims};
use keelson_tests::chaos::verify;
use keelson_tests::environment;
use keelson_tests::proc::cluster::{Cluster, Plan};
use keelson_tests::proc::fleet::Fleet;
use keelson_tests::proc::{binary, client};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Mutex, MutexGuard};
use tonic::{Code, Status};

mod backups;
mod changes;
mod compaction;
mod differs;
mod kubernetes;
mod lost;
mod membership;
mod moves;
mod partitions;
mod releases;
mod replace;
mod watches;

/// The number of clients that write, as issue 2 requires.
const CLIENTS: usize = 64;

/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(90);

/// A member's log line when it receives a snapshot: ours, and etcd 3.4's.
const SNAPSHOT_ARRIVED: [&str; 2] = ["a snapshot has arrived", "applying snapshot"];

/// One cluster at a time: with more, the tests would measure each other on two cores.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Whether to run at full length.
fn soak() -> bool {
    environment::setting("KEELSON_SOAK").is_some()
}

async fn start(members: usize) -> Result<Cluster> {
    Cluster::start(&Plan::new(&binary::ours()?, members)).await
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_two_of_five_are_killed() -> Result<()> {
    let _alone = alone().await;
    let mut cluster = start(5).await?;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (name, victims) in [
        ("leader", Victims::WithLeader),
        ("followers", Victims::Followers),
    ] {
        let round = kill_two::run(&mut cluster, CLIENTS, victims, name, &mut rng).await?;
        let (outage, acked, unknown) = (round.outage, round.acked, round.unknown);
        println!("{victims:?}: outage {outage:?}, {acked} acknowledged, {unknown} unknown");
        ensure!(round.verdict.good(), "{}", round.verdict.violations());
        ensure!(outage < LIMIT, "the outage was {outage:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_planned_stop_of_the_leader_fails_no_request() -> Result<()> {
    let _alone = alone().await;
    let mut cluster = start(5).await?;
    let leader = cluster.leader().await?;
    let patience = Duration::from_secs(10);
    let fleet = Fleet::patient(&cluster.endpoints(), CLIENTS, "stop/", patience);
    fleet.progress(200, LIMIT).await?;
    let at = Instant::now();
    cluster.members[leader].terminate()?;
    cluster.members[leader].stopped().await?;
    println!("the leader stopped after {:?}", at.elapsed());
    fleet.progress(200, LIMIT).await?;
    let ledger = fleet.stop().await;
    println!(
        "longest gap {:?}, {} acknowledged",
        ledger.longest_gap(at),
        ledger.acked.len()
    );

    cluster.restart_all().await?;
    let verdict = verify::verify(&cluster, &ledger, "stop/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    let (unknown, some) = (ledger.unknown.len(), ledger.unknown.iter().take(5));
    let failed = format!("{unknown} requests failed: {:#?}", some.collect::<Vec<_>>());
    // etcd drops requests in flight, so only ours is checked.
    if binary::ours()?.ends_with("etcd") {
        println!("{failed}");
        return Ok(());
    }
    ensure!(unknown == 0, "{failed}");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_stood_still_finds_its_place_again() -> Result<()> {
    let _alone = alone().await;
    let mut cluster = start(5).await?;
    let leader = cluster.leader().await?;
    let fleet = Fleet::start(&cluster.endpoints(), CLIENTS, "pause/");
    fleet.progress(200, LIMIT).await?;
    let at = Instant::now();
    cluster.members[leader].pause()?;
    // Above the election timeout, so that the others elect; the old leader wakes in the belief that
    // it leads.
    tokio::time::sleep(Duration::from_secs(4)).await;
    fleet.progress(200, LIMIT).await?;
    cluster.members[leader].resume()?;
    fleet.progress(200, LIMIT).await?;
    let ledger = fleet.stop().await;
    println!(
        "longest gap {:?}, {} acknowledged",
        ledger.longest_gap(at),
        ledger.acked.len()
    );
    let verdict = verify::verify(&cluster, &ledger, "pause/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}

#[tokio::test]
async fn a_member_that_missed_thousands_of_writes_catches_up_by_snapshot() -> Result<()> {
    let _alone = alone().await;
    // etcd keeps 5,000 entries behind a snapshot in any configuration: with fewer the log is
    // enough.
    let writes = if soak() { 50_000 } else { 12_000 };
    let plan = Plan::new(&binary::ours()?, 5).flag("--snapshot-count=2000");
    let mut cluster = Cluster::start(&plan).await?;
    let leader = cluster.leader().await?;
    let lagging = (leader + 1) % cluster.members.len();
    let mut endpoints = cluster.endpoints();
    endpoints.remove(lagging);

    let fleet = Fleet::start(&endpoints, CLIENTS, "lag/");
    fleet.progress(500, LIMIT).await?;
    cluster.kill(lagging);
    fleet.progress(writes, 10 * LIMIT).await?;
    let log_before = cluster.members[lagging].log().len();
    let at = Instant::now();
    cluster.restart_all().await?;
    println!("the member serves {:?} after its start", at.elapsed());
    fleet.progress(500, LIMIT).await?;
    let ledger = fleet.stop().await;
    println!(
        "longest gap of the others meanwhile: {:?}",
        ledger.longest_gap(at)
    );

    let verdict = verify::verify(&cluster, &ledger, "lag/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    let log = cluster.members[lagging].log().split_off(log_before);
    let arrived = SNAPSHOT_ARRIVED.iter().any(|line| log.contains(line));
    ensure!(arrived, "it caught up by the log alone:\n{log}");
    Ok(())
}

#[tokio::test]
async fn without_a_quorum_only_serializable_reads_go_on() -> Result<()> {
    let _alone = alone().await;
    for leader_survives in [true, false] {
        let mut cluster = start(3).await?;
        let leader = cluster.leader().await?;
        let survivor = if leader_survives {
            leader
        } else {
            (leader + 1) % 3
        };
        let url = cluster.members[survivor].client_url.clone();
        let mut kv = client::kv(&url).await?;
        let put = || PutRequest {
            key: "key".into(),
            value: "value".into(),
            ..Default::default()
        };
        let get = |serializable| RangeRequest {
            key: "key".into(),
            serializable,
            ..Default::default()
        };
        kv.put(put()).await?;
        kv.range(get(false)).await?;
        for number in 0..3 {
            if number != survivor {
                cluster.kill(number);
            }
        }

        let at = Instant::now();
        let (mut writer, mut reader) = (kv.clone(), kv.clone());
        let write = tokio::spawn(async move { writer.put(put()).await.map(drop) });
        let read = tokio::spawn(async move { reader.range(get(false)).await.map(drop) });
        while !write.is_finished() || !read.is_finished() {
            let answer = kv.range(get(true)).await.context("a serializable read")?;
            ensure!(answer.into_inner().count == 1);
            ensure!(at.elapsed() < LIMIT, "a request without a quorum hangs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (write, read) = (write.await?, read.await?);
        println!(
            "leader survives: {leader_survives}, after {:?}: {write:?}, {read:?}",
            at.elapsed()
        );
        timed_out(write)?;
        timed_out(read)?;
    }
    Ok(())
}

/// Checks that the error is one of etcd's for a request without a quorum.
fn timed_out(outcome: Result<(), Status>) -> Result<()> {
    let status = outcome
        .err()
        .context("a request succeeded without a quorum")?;
    ensure!(status.code() == Code::Unavailable, "{status}");
    let texts = [
        "etcdserver: request timed out",
        "etcdserver: request timed out, possibly due to previous leader failure",
        "etcdserver: request timed out, possibly due to connection lost",
        "etcdserver: leader changed",
    ];
    ensure!(texts.contains(&status.message()), "{status}");
    Ok(())
}
