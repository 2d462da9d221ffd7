//! The scenario: five members, every component on every host; two members are killed and restarted,
//! repeatedly. The components' hosts may be others than the members': then each has a proxy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::components::{self as component, DIRECTORIES, KEYS};
use super::host::Component;
use super::ledger::ComponentLedger;
use super::verify;
use crate::http::{Client, Request};
use crate::proc::cluster::{Cluster, Plan};
use crate::proc::proxy::{Kind, Proxy};

/// Members, as in a larger Deis cluster.
const MEMBERS: usize = 5;

/// How long members are down, and how long all are up in between.
const DOWN: Duration = Duration::from_millis(2_500);
const UP: Duration = Duration::from_millis(1_500);

/// Writes must succeed again within this time after a kill.
const RECOVERY: Duration = Duration::from_secs(20);

/// The results of a run.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Answered requests.
    pub answered: u64,
    /// Requests to a member that was down.
    pub unheard: u64,
    /// Writes answered with 5xx.
    pub uncertain: u64,
    /// Events that watchers received.
    pub events: u64,
    /// Keys checked at the end.
    pub keys: usize,
    /// Violations.
    pub violated: u64,
}

/// The servers that the components of a host use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// The host's own member.
    Members,
    /// The host's proxy.
    Proxies,
}

/// Runs `rounds` rounds.
///
/// # Errors
/// The cluster does not start or recover. Violations are in the second part of the outcome.
pub async fn run(
    binary: &Path,
    hosts: Hosts,
    rounds: usize,
    seed: u64,
) -> Result<(Summary, String)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let plan = Plan::new(binary, MEMBERS).flag("--enable-v2=true");
    let mut cluster = Cluster::start(&plan).await?;
    provision(&cluster)
        .await
        .with_context(|| cluster.log_tails())?;
    let ledger = Arc::new(ComponentLedger::new(MEMBERS));
    // Declared after the cluster, so that they end before it.
    let proxies = match hosts {
        Hosts::Members => Vec::new(),
        Hosts::Proxies => proxies(binary, &cluster).await?,
    };
    let urls = match hosts {
        Hosts::Members => cluster.endpoints(),
        Hosts::Proxies => proxies.iter().map(|proxy| proxy.url.clone()).collect(),
    };
    let mut components = start(&urls, &ledger);
    tokio::time::sleep(UP).await;
    for round in 0..rounds {
        // A proxy is always up, also while its members are down.
        let told = (hosts == Hosts::Members).then_some(&*ledger);
        let outcome = disaster(&mut cluster, told, round, &mut rng).await;
        outcome.with_context(|| cluster.log_tails())?;
    }
    ledger.stopping.store(true, Ordering::Relaxed);
    while let Some(ended) = components.join_next().await {
        ended.context("a component panicked")?;
    }
    let keys = verify::verify(&cluster, &ledger).await?;
    let figure = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let summary = Summary {
        answered: figure(&ledger.answered),
        unheard: figure(&ledger.unheard),
        uncertain: figure(&ledger.uncertain),
        events: figure(&ledger.events),
        keys,
        violated: figure(&ledger.violated),
    };
    Ok((summary, ledger.violations()))
}

/// The data on every member before any component starts.
async fn provision(cluster: &Cluster) -> Result<()> {
    let endpoints = cluster.endpoints();
    let mut client = Client::new(&endpoints[0]);
    for directory in DIRECTORIES {
        let request = Request::put(format!("/v2/keys{directory}"), "dir=true");
        let reply = client.ask(&request).await?;
        ensure!(reply.status == 201, "{request}: {reply}");
    }
    let job = "/_coreos.com/fleet/job/deis-router@1.service/object";
    for (key, value) in KEYS.into_iter().chain([(job, "{}")]) {
        let request = Request::put(format!("/v2/keys{key}"), format!("value={value}"));
        let reply = client.ask(&request).await?;
        ensure!(reply.status == 201, "{request}: {reply}");
    }
    let deadline = Instant::now() + RECOVERY;
    for endpoint in &endpoints {
        let mut client = Client::new(endpoint);
        // Replication is in order, so the last key suffices; every member has published its
        // address.
        let last = Request::get(format!("/v2/keys{job}?quorum=true"));
        let machines = Request::get("/v2/machines");
        loop {
            let there = client.ask(&last).await?.status == 200;
            if there && client.ask(&machines).await?.text().split(", ").count() == MEMBERS {
                break;
            }
            ensure!(Instant::now() < deadline, "{endpoint} is not provisioned");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// One proxy for each member.
async fn proxies(binary: &Path, cluster: &Cluster) -> Result<Vec<Proxy>> {
    let mut proxies = Vec::with_capacity(MEMBERS);
    for _ in 0..MEMBERS {
        let mut proxy = Proxy::start(binary, Kind::Proxy, cluster, &[])?;
        proxy.wait_ready(RECOVERY).await?;
        proxies.push(proxy);
    }
    Ok(proxies)
}

/// Every component on every host.
fn start(urls: &[String], ledger: &Arc<ComponentLedger>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (member, url) in urls.iter().enumerate() {
        let host = |name: &str| Component::new(name, member, url, ledger);
        tasks.spawn(component::confd(host("confd")));
        tasks.spawn(component::boot_script(host("boot")));
        tasks.spawn(component::builder(host("builder")));
        tasks.spawn(component::check_repos(host("check-repos")));
        tasks.spawn(component::publisher(host("publisher")));
        tasks.spawn(component::router(host("router")));
        tasks.spawn(component::engine(host("engine")));
        tasks.spawn(component::agent(host("agent")));
        tasks.spawn(component::fleet_watch(host("fleet-watch")));
        tasks.spawn(component::scheduler(host("scheduler")));
        tasks.spawn(component::flannel(host("flannel")));
        tasks.spawn(component::subnets(host("subnets")));
        tasks.spawn(component::controller(host("controller")));
        tasks.spawn(component::logger(host("logger")));
        tasks.spawn(component::queue(host("queue")));
    }
    tasks
}

/// Kills two members, in every other round the leader among them, and restarts them.
async fn disaster(
    cluster: &mut Cluster,
    ledger: Option<&ComponentLedger>,
    round: usize,
    rng: &mut impl Rng,
) -> Result<()> {
    let leader = cluster.leader().await?;
    let others = (0..MEMBERS).filter(|member| *member != leader);
    let victims = if round.is_multiple_of(2) {
        let other = others.choose(rng).context("there are others")?;
        vec![leader, other]
    } else {
        others.choose_multiple(rng, 2)
    };
    for victim in &victims {
        // The kill is recorded before it happens, so that its effects are not counted as
        // violations.
        if let Some(ledger) = ledger {
            ledger.epochs[*victim].fetch_add(1, Ordering::SeqCst);
        }
        cluster.kill(*victim);
    }
    tokio::time::sleep(DOWN).await;
    let survivor = (0..MEMBERS).find(|member| !victims.contains(member));
    recovered(
        &cluster.endpoints()[survivor.context("three survive")?],
        round,
    )
    .await?;
    cluster.restart_all().await?;
    if let Some(ledger) = ledger {
        for victim in &victims {
            ledger.epochs[*victim].fetch_add(1, Ordering::SeqCst);
        }
    }
    tokio::time::sleep(UP).await;
    Ok(())
}

/// Waits until three of five accept writes.
async fn recovered(url: &str, round: usize) -> Result<()> {
    let deadline = Instant::now() + RECOVERY;
    let request = Request::put("/v2/keys/test/recovered", format!("value={round}"));
    loop {
        let reply = Client::new(url).ask(&request).await;
        if reply.as_ref().is_ok_and(|reply| reply.status < 300) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no recovery: {reply:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
