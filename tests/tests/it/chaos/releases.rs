//! Two releases in one cluster. `KEELSON_OTHER_BIN` names the older binary: no registry has one, so
//! these tests are skipped without it, in CI too.

use std::path::Path;

use keelson_proto::etcdserverpb::DowngradeRequest;
use keelson_proto::etcdserverpb::downgrade_request::DowngradeAction;
use keelson_tests::chaos::members::{Members, NOT_IN_SYNC, UNHEALTHY, done, id_of};

use super::membership::logged;
use super::*;

/// The number of writers beside members of two releases.
const WRITERS: usize = 16;

/// How often a condition is checked.
const POLL: Duration = Duration::from_millis(20);

/// More entries than a leader keeps with [`CUT_EARLY`].
const BEHIND: u64 = 6_000;

/// With these the log is truncated early: a member that was down needs a snapshot of the other
/// release.
const CUT_EARLY: [&str; 2] = ["--snapshot-count=1000", "--snapshot-catchup-entries=10"];

/// Stops one member after the other, and starts it with this binary.
async fn replace_all(cluster: &mut Cluster, fleet: &Fleet, binary: &Path) -> Result<()> {
    // The followers first, and the leader last.
    let leader = cluster.leader().await?;
    for number in [(leader + 1) % 3, (leader + 2) % 3, leader] {
        cluster.members[number].terminate()?;
        cluster.members[number].stopped().await?;
        fleet.progress(200, LIMIT).await?;
        cluster.members[number].set_binary(binary);
        cluster.members[number].start()?;
        cluster.wait_ready(LIMIT).await?;
        fleet.progress(200, LIMIT).await?;
    }
    Ok(())
}

/// Begins a downgrade, and waits until the release before starts on the data of every member.
async fn downgrade(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    let request = DowngradeRequest {
        action: DowngradeAction::Enable.into(),
        version: "3.4".to_owned(),
    };
    let url = &cluster.members[0].client_url;
    let mut client = client::maintenance(url).await?;
    // It is refused until every member has published its release.
    while let Err(status) = client.downgrade(request.clone()).await {
        ensure!(begin.elapsed() < LIMIT, "{status}");
        tokio::time::sleep(POLL).await;
    }
    for url in cluster.endpoints() {
        while client::status(&url).await?.storage_version != "3.4.0" {
            ensure!(begin.elapsed() < LIMIT, "{url} keeps the newer layout");
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// The other binary is of the release before this one, or of the same command version.
#[tokio::test]
async fn a_cluster_is_upgraded_and_downgraded_member_by_member_under_load() -> Result<()> {
    let Some(other) = binary::other_or_skip()? else {
        return Ok(());
    };
    let _alone = alone().await;
    let ours = binary::ours()?;
    let mut cluster = Cluster::start(&Plan::new(&other, 3)).await?;
    let fleet = Fleet::start(&cluster.endpoints(), WRITERS, "roll/");
    fleet.progress(200, LIMIT).await?;
    replace_all(&mut cluster, &fleet, &ours).await?;
    downgrade(&cluster).await?;
    replace_all(&mut cluster, &fleet, &other).await?;
    let ledger = fleet.stop().await;
    let verdict = verify::verify(&cluster, &ledger, "roll/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}

/// A member of each release is down for long and gets a snapshot, leaders are killed, and a member
/// of this release joins.
#[tokio::test]
async fn members_of_two_releases_are_one_cluster_under_load() -> Result<()> {
    let Some(other) = binary::other_or_skip()? else {
        return Ok(());
    };
    let _alone = alone().await;
    let ours = binary::ours()?;
    let extra = CUT_EARLY.map(str::to_owned).to_vec();
    let plan = CUT_EARLY
        .into_iter()
        .fold(Plan::new(&other, 3), |plan, flag| plan.flag(flag));
    let mut cluster = Cluster::create(&plan)?;
    cluster.members[2].set_binary(&ours);
    cluster.restart_all().await?;

    let fleet = Fleet::start(&cluster.endpoints(), WRITERS, "mixed/");
    fleet.progress(200, LIMIT).await?;
    // One of each release, down for so long that the log is not enough.
    for number in [2, 0] {
        let before = cluster.members[number].log().len();
        cluster.kill(number);
        fleet.progress(BEHIND, 2 * LIMIT).await?;
        cluster.restart_all().await?;
        logged(&mut cluster.members[number], SNAPSHOT_ARRIVED[0], before).await?;
        fleet.progress(200, LIMIT).await?;
    }
    // The leader, of either release, is killed, and the next one leads.
    for _ in 0..3 {
        let leader = cluster.leader().await?;
        cluster.kill(leader);
        fleet.progress(200, LIMIT).await?;
        cluster.restart_all().await?;
        fleet.progress(200, LIMIT).await?;
    }

    let leader = cluster.leader().await?;
    let members = Members::at(&cluster.members[leader].client_url);
    let joining = cluster.describe(&ours, "joining")?;
    let peer_url = cluster.members[joining].peer_url.clone();
    let id = done(&[UNHEALTHY], || members.add(&peer_url, true)).await?;
    cluster.join(joining, &extra)?;
    done(&[NOT_IN_SYNC], || members.promote(id)).await?;
    cluster.wait_ready(LIMIT).await?;
    ensure!(id_of(&cluster.members[joining].client_url).await? == id);
    fleet.progress(200, LIMIT).await?;
    let ledger = fleet.stop().await;
    let verdict = verify::verify(&cluster, &ledger, "mixed/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
