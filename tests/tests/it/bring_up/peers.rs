//! Compatibility with the originals: etcd's hosts at our service, ours at Debian's.

use anyhow::{Context, Result, ensure};
use keelson_tests::bring_up::{Platform, Service, eventually};
use keelson_tests::http::{Client, Request};
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};

#[tokio::test]
async fn three_etcds_come_up_through_our_service() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let dir = tempfile::tempdir()?;
    let service = Service::ours(&ours, dir.path()).await?;
    let mut platform = Platform::at(service, dir, &ours, &etcd, 3, 3)?;
    let hosts = platform.hosts.drain(..);
    platform.hosts = hosts
        .map(|host| host.with("ETCD_ENABLE_V2", "true"))
        .collect();
    platform.start(&[2, 0, 1])?;
    platform.serves().await?;
    // They publish their addresses by writes of their own.
    let named = eventually("three members", async || {
        platform.has_members(3).await.is_ok()
    });
    named.await.with_context(|| platform.log_tails())?;
    for host in &platform.hosts {
        let request = Request::put("/v2/keys/a", "value=1");
        let reply = Client::new(&host.client_url).ask(&request).await?;
        ensure!(matches!(reply.status, 200 | 201), "{reply}");
    }
    Ok(())
}

#[tokio::test]
async fn our_hosts_come_up_through_debians_service() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let Some(debians) = binary::or_skip("discovery.etcd.io")? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let registry = Cluster::start(&Plan::new(&etcd, 1).flag("--enable-v2=true")).await?;
    let dir = tempfile::tempdir()?;
    let service = Service::debians(&debians, dir.path(), &registry.endpoints()[0]).await?;
    let mut platform = Platform::at(service, dir, &ours, &ours, 5, 3)?;
    platform.start(&[4, 1, 3, 0, 2])?;
    platform.serves().await?;
    platform
        .has_members(3)
        .await
        .with_context(|| platform.log_tails())
}

/// A host of ours that comes late to a cluster of etcds is a proxy for them.
#[tokio::test]
async fn our_host_becomes_a_proxy_before_etcds() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let dir = tempfile::tempdir()?;
    let service = Service::ours(&ours, dir.path()).await?;
    let mut platform = Platform::at(service, dir, &ours, &etcd, 1, 1)?;
    let hosts = platform.hosts.drain(..);
    platform.hosts = hosts
        .map(|host| host.with("ETCD_ENABLE_V2", "true"))
        .collect();
    platform.start(&[0])?;
    platform.serves().await?;
    let late = keelson_tests::bring_up::Host::new(&ours, platform.dir(), "late")?;
    platform
        .hosts
        .push(late.with("ETCD_DISCOVERY", &platform.token));
    platform.start(&[1])?;
    platform.serves().await?;
    platform
        .has_members(1)
        .await
        .with_context(|| platform.log_tails())
}
