//! A cluster comes up from one URL, in any order of its hosts and in spite of deaths meanwhile.

use anyhow::{Context, Result, ensure};
use keelson_tests::bring_up::{Platform, Role, eventually};
use keelson_tests::environment;
use keelson_tests::http::{Client, Request};
use keelson_tests::proc::binary;
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const HOSTS: usize = 8;
const MEMBERS: usize = 5;

/// The number of orders in an ordinary run, and in a long one.
const SEEDS: u64 = 2;
const SOAK: u64 = 40;

fn shuffled(rng: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..HOSTS).collect();
    order.shuffle(rng);
    order
}

#[tokio::test]
async fn five_of_eight_hosts_become_members_whatever_dies_meanwhile() -> Result<()> {
    let soak = environment::setting("KEELSON_SOAK").is_some();
    for seed in 1..=if soak { SOAK } else { SEEDS } {
        let founded = found(seed).await;
        founded.with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

async fn found(seed: u64) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut platform = Platform::ours(&binary::ours()?, HOSTS, MEMBERS).await?;
    let order = shuffled(&mut rng);
    // Fewer than the cluster's size: they register, and wait.
    let early = rng.random_range(2..MEMBERS);
    platform.start(&order[..early])?;
    registered(&platform, early).await?;
    // Some die between registering and having a log; the service dies while others wait for it.
    let victims = order[..early].iter().copied();
    let victims = victims.choose_multiple(&mut rng, early - 1);
    for victim in &victims {
        platform.hosts[*victim].kill();
        ensure!(
            platform.hosts[*victim].role() == Role::Undecided,
            "too late"
        );
    }
    let service_first = rng.random_bool(0.5);
    platform.service.kill();
    if service_first {
        platform.service.up()?;
    }
    // All others start at once, and those that died restart.
    platform.start(&shuffled(&mut rng))?;
    if !service_first {
        platform.service.up()?;
    }
    platform.serves().await?;
    platform
        .has_members(MEMBERS)
        .await
        .with_context(|| platform.log_tails())?;
    ensure!(
        platform
            .hosts
            .iter()
            .all(|host| host.role() != Role::Undecided)
    );
    write(&platform).await?;
    again(&mut platform, &mut rng).await
}

/// Waits until this number of hosts is registered at the token.
async fn registered(platform: &Platform, count: usize) -> Result<()> {
    let all = eventually("registrations", async || {
        let names = platform.service.registered(&platform.token).await;
        names.is_ok_and(|names| names.len() == count)
    });
    all.await.with_context(|| platform.log_tails())
}

/// Writes a key through each host.
async fn write(platform: &Platform) -> Result<()> {
    for host in &platform.hosts {
        let request = Request::put(format!("/v2/keys/{}", host.name), "value=here");
        let reply = Client::new(&host.client_url).ask(&request).await?;
        ensure!(reply.status == 201, "{}: {reply}", host.name);
    }
    Ok(())
}

/// All hosts end, in different ways, and restart in another order, without the service: their roles
/// and the data are the same.
async fn again(platform: &mut Platform, rng: &mut impl Rng) -> Result<()> {
    let roles = platform.roles();
    for host in &mut platform.hosts {
        match rng.random_bool(0.5) {
            true => host.kill(),
            false => host.stop().await?,
        }
    }
    platform.service.kill();
    platform.start(&shuffled(rng))?;
    platform.serves().await?;
    ensure!(
        platform.roles() == roles,
        "{roles:?} became {:?}",
        platform.roles()
    );
    for host in &platform.hosts {
        let mut client = Client::new(&host.client_url);
        for other in &platform.hosts {
            let request = Request::get(format!("/v2/keys/{}", other.name));
            let reply = client.ask(&request).await?;
            ensure!(reply.status == 200, "{}: {request}: {reply}", host.name);
        }
    }
    platform.service.up()?;
    let listening = eventually("the service", async || {
        platform.service.registered(&platform.token).await.is_ok()
    });
    listening.await?;
    platform
        .has_members(MEMBERS)
        .await
        .with_context(|| platform.log_tails())
}

/// etcd#6292: such a host would vote a second time in a term that it has forgotten.
#[tokio::test]
async fn a_founder_that_lost_its_data_is_refused() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 3, 3).await?;
    platform.start(&[0, 1, 2])?;
    platform.serves().await?;
    let lost = &mut platform.hosts[1];
    lost.kill();
    std::fs::remove_dir_all(lost.data_dir())?;
    lost.refuses("has already been bootstrapped").await?;
    // Nor does it succeed by restarting, as systemd would have it do.
    lost.refuses("has already been bootstrapped").await?;
    platform.serves().await
}

/// Without the others its earlier run cannot be ruled out, so it does not begin.
#[tokio::test]
async fn a_founder_that_lost_its_data_does_not_begin_alone() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 3, 3).await?;
    platform.start(&[0, 1, 2])?;
    platform.serves().await?;
    for host in &mut platform.hosts {
        host.kill();
    }
    let lost = &mut platform.hosts[1];
    std::fs::remove_dir_all(lost.data_dir())?;
    for _ in 0..2 {
        lost.refuses("that must confirm that it has never run")
            .await?;
        ensure!(lost.role() == Role::Undecided);
    }
    platform.start(&[0, 2])?;
    for host in [0, 2] {
        platform.hosts[host].serves().await?;
    }
    let lost = &mut platform.hosts[1];
    lost.refuses("has already been bootstrapped").await
}

/// etcd 2 uses its discovery service again, too.
#[tokio::test]
async fn a_proxy_that_ended_before_it_knew_its_cluster_finds_it() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 4, 3).await?;
    platform.start(&[0, 1, 2])?;
    platform.serves().await?;
    for host in &mut platform.hosts[..3] {
        host.kill();
    }
    for _ in 0..2 {
        let late = &mut platform.hosts[3];
        late.start()?;
        late.says("no peer returns the member list").await?;
        late.kill();
        ensure!(late.role() == Role::Proxy);
        ensure!(!late.data_dir().join("proxy/cluster").exists());
        // So that the second time the line is a new one.
        late.forget_log()?;
    }
    platform.start(&[0, 1, 2, 3])?;
    platform.serves().await
}

#[tokio::test]
async fn with_fallback_exit_a_late_host_ends_and_leaves_no_trace() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 2, 1).await?;
    platform.start(&[0])?;
    platform.serves().await?;
    let late = platform.hosts.pop().context("two hosts")?;
    let mut late = late.with("ETCD_DISCOVERY_FALLBACK", "exit");
    late.refuses("discovery: cluster is full").await?;
    ensure!(late.role() == Role::Undecided);
    platform.has_members(1).await
}

/// The token was deleted, or never existed: exit 1, with the remedy.
#[tokio::test]
async fn a_token_that_is_not_there_is_said() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 1, 1).await?;
    let nowhere = format!("{}/{}", platform.service.url, "0".repeat(32));
    let host = platform.hosts.pop().context("a host")?;
    let mut host = host.with("ETCD_DISCOVERY", &nowhere);
    host.refuses("does not exist or has expired").await?;
    ensure!(host.role() == Role::Undecided);
    Ok(())
}
