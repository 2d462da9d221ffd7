//! The order of a run: servers, watches at the proxy, watches at the member, keys.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::proc::cluster::READY_LIMIT;
use keelson_tests::proc::proxy::{Kind, Proxy};
use keelson_tests::proc::usage::{self, Memory};
use tokio::task::JoinSet;

use super::plan::Plan;
use super::report::{self, Outcome};
use crate::bulk::{calls, reads};
use crate::cluster::wire;
use crate::events::streams::{self, Received};
use crate::files;
use crate::progress;
use crate::server::Server;
use crate::table;

/// How long all watches may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the plan, prints the table, writes the file.
///
/// # Errors
/// A server does not start, or a watch does not begin.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_no_baseline("memory")?;
    files::allow(plan.watches)?;
    let servers = plan.servers.find()?;
    let outcomes = crate::block_on(measure(plan, &servers))?;
    let text = report::markdown(plan, &servers, &outcomes);
    table::publish(plan.out.as_deref(), "memory.md", text)
}

async fn measure(plan: &Plan, servers: &[Server]) -> Result<Vec<[Outcome; 2]>> {
    let progress = progress::bar(servers.len());
    let mut outcomes = Vec::new();
    for server in servers {
        progress.set_message(server.name.clone());
        let one = one_server(plan, server).await;
        outcomes.push(one.with_context(|| server.name.clone())?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

async fn one_server(plan: &Plan, server: &Server) -> Result<[Outcome; 2]> {
    let mut cluster = server.start(&plan.servers, 1).await?;
    // etcd's `--proxy on` has no v3 API.
    let kind = match server.is_etcd() {
        true => Kind::GrpcProxy,
        false => Kind::Proxy,
    };
    let mut proxy = Proxy::start(&server.binary, kind, &cluster, &[])?;
    proxy.wait_ready(READY_LIMIT).await?;
    let (url, pid) = (cluster.endpoints()[0].clone(), cluster.pids()[0]);
    // Before the member has seen watches of any kind.
    let idle = settled(plan, pid).await?;
    let of_proxy = watched(plan, &proxy.url, proxy.pid()).await?;
    proxy.alive()?;
    drop(proxy);
    let mut of_member = watched(plan, &url, pid).await?;
    of_member.idle = idle;
    let keys = (0..plan.keys).map(|number| (reads::key(number), 0));
    calls::put_all(&url, keys, plan.value_bytes).await?;
    of_member.keys = Some(settled(plan, pid).await?);
    cluster.members[0].alive()?;
    Ok([of_member, of_proxy])
}

/// The memory of the process before, with and after the watches.
async fn watched(plan: &Plan, url: &str, pid: u32) -> Result<Outcome> {
    let idle = settled(plan, pid).await?;
    let watches = open(plan, url).await?;
    let watching = settled(plan, pid).await?;
    drop(watches);
    Ok(Outcome {
        idle,
        watching,
        after: settled(plan, pid).await?,
        keys: None,
    })
}

/// Opens a connection for each watch. Dropping the set closes them.
async fn open(plan: &Plan, url: &str) -> Result<JoinSet<Result<()>>> {
    let received = Received::new(Instant::now());
    let mut watches = JoinSet::new();
    let due = Instant::now() + PATIENCE;
    for number in 0..plan.watches {
        let (wire, received) = (wire::open(url).await?, received.clone());
        watches.spawn(streams::watch(wire, url.to_owned(), vec![number], received));
    }
    while received.created.load(Ordering::Relaxed) < plan.watches as u64 {
        if let Some(ended) = watches.try_join_next() {
            ended??;
            bail!("a watch ended");
        }
        ensure!(Instant::now() < due, "not all watches began");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(watches)
}

async fn settled(plan: &Plan, pid: u32) -> Result<Memory> {
    tokio::time::sleep(Duration::from_secs(plan.settle)).await;
    usage::memory(pid)
}
