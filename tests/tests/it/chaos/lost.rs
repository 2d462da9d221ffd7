//! A member whose disk was lost.

use super::*;

/// It is restarted with an empty directory and the state `existing`. Its votes and acknowledgements
/// are gone, so it must not rejoin under its old id: it ends and names the remedy. etcd panics.
#[tokio::test]
async fn a_member_that_lost_its_disk_ends_with_the_remedy() -> Result<()> {
    let ours = binary::ours()?;
    if ours.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let mut cluster = start(3).await?;
    let leader = cluster.leader().await?;
    let lost = (leader + 1) % 3;
    let fleet = Fleet::start(&[cluster.members[leader].client_url.clone()], 4, "lost/");
    fleet.progress(20, LIMIT).await?;
    cluster.kill(lost);
    cluster.members[lost].lose_disk()?;
    let before = cluster.members[lost].log().len();
    cluster.join(lost, &[])?;
    let code = cluster.members[lost].ended(LIMIT).await?;
    let log = cluster.members[lost].log().split_off(before);
    let remedy = log.contains("member remove") && log.contains("member add");
    ensure!(
        code == Some(1) && remedy && !log.contains("panicked"),
        "{code:?}\n{log}"
    );
    fleet.progress(20, LIMIT).await?;
    let ledger = fleet.stop().await;
    let verdict = verify::verify(&cluster, &ledger, "lost/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
