//! `keelson export`: etcd starts on what is written of a killed member, and has the same.

use anyhow::Result;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan, READY_LIMIT};

use super::imports::{contents, fill};
use super::snapshots::{Peer, debians, newer, run};

async fn exports(peer: &Peer) -> Result<()> {
    let ours = binary::ours()?;
    let mut cluster = Cluster::start(&Plan::new(&ours, 1)).await?;
    let url = cluster.members[0].client_url.clone();
    fill(peer, &url).await?;
    let expected = contents(peer, &url).await?;
    cluster.kill(0);
    let from = cluster.dir().join(&cluster.members[0].name);
    let from = from.display().to_string();
    let mut etcd = Cluster::create(&Plan::new(&peer.server, 1).flag("--enable-v2"))?;
    let member = &etcd.members[0];
    let dir = etcd.dir().join(&member.name).display().to_string();
    let listed = format!("{}={}", member.name, member.peer_url);
    let flags = [
        &["export", &from, "--data-dir", &dir, "--name", &member.name][..],
        &["--initial-cluster", &listed],
        &["--initial-advertise-peer-urls", &member.peer_url],
    ];
    run(&ours, &flags.concat()).await?;
    etcd.members[0].start()?;
    etcd.wait_ready(READY_LIMIT).await?;
    let url = &etcd.members[0].client_url;
    assert_eq!(contents(peer, url).await?, expected);
    Ok(())
}

#[tokio::test]
async fn etcd_of_debian_starts_on_what_is_exported() -> Result<()> {
    match debians()? {
        Some(peer) => exports(&peer).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn etcd_3_5_starts_on_what_is_exported() -> Result<()> {
    match newer()? {
        Some(peer) => exports(&peer).await,
        None => Ok(()),
    }
}
