//! Five members of which one is dead: each membership change succeeds or is refused as in etcd.

use keelson_tests::chaos::members::{Members, NOT_IN_SYNC, UNHEALTHY, done, id_of, refused};

use super::membership::{GONE, logged};
use super::*;

/// The number of writers: two cores run six members of a debug build beside them.
const WRITERS: usize = 8;

/// A learner is promoted, a living voter removed, the dead one removed, and a new voter added.
#[tokio::test]
async fn five_members_of_which_one_is_dead_change_as_etcd_allows() -> Result<()> {
    let _alone = alone().await;
    let ours = binary::ours()?;
    let mut cluster = start(5).await?;
    let leader = cluster.leader().await?;
    let (dead, leaving) = ((leader + 1) % 5, (leader + 2) % 5);
    let urls = cluster.endpoints();
    let (dead_id, leaving_id) = (id_of(&urls[dead]).await?, id_of(&urls[leaving]).await?);
    let kept: Vec<String> = [leader, (leader + 3) % 5, (leader + 4) % 5]
        .map(|number| urls[number].clone())
        .to_vec();
    let fleet = Fleet::start(&kept, WRITERS, "five/");
    fleet.progress(100, LIMIT).await?;

    let members = Members::at(&urls[leader]);
    let learner = cluster.describe(&ours, "learner")?;
    let peer_url = cluster.members[learner].peer_url.clone();
    let learner_id = done(&[UNHEALTHY], || members.add(&peer_url, true)).await?;
    refused(members.promote(learner_id).await, NOT_IN_SYNC)?;
    cluster.join(learner, &[])?;
    let before = cluster.members[leader].log().len();
    cluster.kill(dead);
    if !ours.ends_with("etcd") {
        logged(&mut cluster.members[leader], GONE, before).await?;
    }

    for is_learner in [false, true] {
        let nowhere = members.add("http://127.0.0.1:9", is_learner).await;
        refused(nowhere, UNHEALTHY)?;
    }
    fleet.progress(100, LIMIT).await?;
    done(&[NOT_IN_SYNC], || members.promote(learner_id)).await?;
    fleet.progress(100, LIMIT).await?;
    // Six voters of which five are alive: four of the other five are.
    members.remove(leaving_id).await?;
    fleet.progress(100, LIMIT).await?;
    members.remove(dead_id).await?;
    let removed = cluster.members[leaving].ended(LIMIT).await?;
    ensure!(
        removed == Some(0),
        "a removed member exits with {removed:?}"
    );

    for number in [dead.max(leaving), dead.min(leaving)] {
        cluster.members.remove(number);
    }
    let new = cluster.describe(&ours, "new")?;
    let peer_url = cluster.members[new].peer_url.clone();
    done(&[UNHEALTHY], || members.add(&peer_url, false)).await?;
    cluster.join(new, &[])?;
    cluster.wait_ready(LIMIT).await?;
    fleet.progress(100, LIMIT).await?;
    let ledger = fleet.stop().await;
    let voters = members.list().await?;
    ensure!(
        voters.len() == 5 && voters.iter().all(|member| !member.is_learner),
        "{voters:?}"
    );
    let verdict = verify::verify(&cluster, &ledger, "five/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
