//! Members whose peer URLs change under load.

use keelson_tests::chaos::members::{Members, UNHEALTHY, done, id_of};
use keelson_tests::proc::client::status;
use keelson_tests::proc::ports;

use super::*;

/// The number of writers while members move.
const WRITERS: usize = 8;

/// The URLs of a follower and of the leader are updated to another spelling of the same address,
/// and the leader stays. Then each moves to another port by etcd's manual: update, stop, start.
#[tokio::test]
async fn members_whose_peer_urls_are_updated_go_on_and_the_leader_leads_on() -> Result<()> {
    let _alone = alone().await;
    let mut cluster = start(3).await?;
    let leader = cluster.leader().await?;
    let urls = cluster.endpoints();
    let fleet = Fleet::start(&urls, WRITERS, "moves/");
    fleet.progress(100, LIMIT).await?;
    let term = status(&urls[leader]).await?.raft_term;
    for number in [(leader + 1) % 3, leader] {
        let id = id_of(&urls[number]).await?;
        let url = cluster.members[number]
            .peer_url
            .replace("127.0.0.1", "localhost");
        Members::at(&urls[leader]).update(id, &url).await?;
        fleet.progress(200, LIMIT).await?;
    }
    let after = status(&urls[leader]).await?;
    let id = after.header.as_ref().map_or(0, |header| header.member_id);
    ensure!(
        (after.leader, after.raft_term) == (id, term),
        "an update deposed the leader: {after:?}"
    );

    for number in [(leader + 1) % 3, leader] {
        let id = id_of(&urls[number]).await?;
        let other = (number + 1) % 3;
        let members = Members::at(&urls[other]);
        let url = format!("http://127.0.0.1:{}", ports::free(1)?[0]);
        done(&[UNHEALTHY], || members.update(id, &url)).await?;
        cluster.members[number].terminate()?;
        cluster.members[number].stopped().await?;
        cluster.members[number].move_to(&url);
        cluster.members[number].start()?;
        cluster.wait_ready(LIMIT).await?;
        fleet.progress(200, LIMIT).await?;
    }
    // With one other member down the two that moved are the quorum: each receives at its new URL.
    cluster.kill((leader + 2) % 3);
    fleet.progress(100, LIMIT).await?;
    let ledger = fleet.stop().await;
    cluster.restart_all().await?;
    let verdict = verify::verify(&cluster, &ledger, "moves/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
