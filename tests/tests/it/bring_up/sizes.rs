//! `DEIS_NUM_INSTANCES`, the number of members, for which etcd has no setting.

use anyhow::{Result, ensure};
use keelson_tests::bring_up::{Host, Platform, Role};
use keelson_tests::http::{Client, Request};
use keelson_tests::proc::binary;
use tempfile::TempDir;

const SIZE: &str = "DEIS_NUM_INSTANCES";

/// Hosts that all list each other.
fn listed(count: usize, size: &str) -> Result<(Vec<Host>, TempDir)> {
    let dir = tempfile::tempdir()?;
    let ours = binary::ours()?;
    let hosts = (1..=count).map(|number| Host::new(&ours, dir.path(), &format!("h{number}")));
    let hosts: Vec<Host> = hosts.collect::<Result<_>>()?;
    let entries: Vec<String> = hosts.iter().map(Host::entry).collect();
    let list = entries.join(",");
    let hosts = hosts
        .into_iter()
        .map(|host| host.with("ETCD_INITIAL_CLUSTER", &list));
    Ok((hosts.map(|host| host.with(SIZE, size)).collect(), dir))
}

#[tokio::test]
async fn the_first_of_a_static_list_are_members_and_the_rest_proxies() -> Result<()> {
    let (mut hosts, _dir) = listed(5, "3")?;
    for host in hosts.iter_mut().rev() {
        host.start()?;
    }
    for host in &mut hosts {
        host.serves().await?;
    }
    let roles: Vec<Role> = hosts.iter().map(Host::role).collect();
    let (member, proxy) = (Role::Member, Role::Proxy);
    ensure!(roles == [member, member, member, proxy, proxy], "{roles:?}");
    for host in &hosts {
        let mut client = Client::new(&host.client_url);
        let reply = client.ask(&Request::get("/v2/members")).await?;
        let members = reply
            .json()
            .map(|json| json["members"].as_array().map(Vec::len));
        ensure!(members == Some(Some(3)), "{}: {reply}", host.name);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_size_is_refused() -> Result<()> {
    for (size, text) in [
        (
            "0",
            "DEIS_NUM_INSTANCES: a cluster needs at least one member",
        ),
        ("five", "DEIS_NUM_INSTANCES: \"five\" is not a member count"),
        ("-3", "DEIS_NUM_INSTANCES: \"-3\" is not a member count"),
    ] {
        let (mut hosts, _dir) = listed(1, size)?;
        hosts[0].refuses(text).await?;
        ensure!(hosts[0].role() == Role::Undecided, "{size}");
    }
    Ok(())
}

#[tokio::test]
async fn an_even_size_is_warned_of() -> Result<()> {
    let (mut hosts, _dir) = listed(3, "2")?;
    for host in &mut hosts {
        host.start()?;
    }
    for host in &mut hosts {
        host.serves().await?;
        host.says("choose an odd number").await?;
    }
    ensure!(hosts[2].role() == Role::Proxy);
    Ok(())
}

#[tokio::test]
async fn a_token_goes_before_the_environment() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 2, 1).await?;
    let hosts = platform.hosts.drain(..);
    platform.hosts = hosts.map(|host| host.with(SIZE, "3")).collect();
    platform.start(&[0, 1])?;
    platform.serves().await?;
    platform.has_members(1).await?;
    for host in &mut platform.hosts {
        host.says("the discovery URL was made for 1 members")
            .await?;
    }
    Ok(())
}
