//! The order of a run: servers, works.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use keelson_tests::proc::cluster::Cluster;
use keelson_tests::proc::usage;

use super::calls;
use super::outcome::Outcome;
use super::plan::{Plan, Work};
use super::{leases, reads, report};
use crate::events::plan::Keys;
use crate::events::puts::Puts;
use crate::histogram::Histogram;
use crate::niced;
use crate::progress;
use crate::server::Server;
use crate::table;

/// How long memory is left alone before it is read.
const SETTLE: Duration = Duration::from_secs(2);

/// How often memory is read.
const SAMPLE: Duration = Duration::from_millis(20);

/// The duration of puts between two looks at the leases.
const SLICE: Duration = Duration::from_millis(500);

/// Distinct keys of the puts.
const PUT_KEYS: usize = 1000;

/// Runs the plan, prints the table, writes the file.
///
/// # Errors
/// A server does not start, or refuses a call that it has.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_no_baseline("bulk")?;
    ensure!(plan.page != 0 && plan.keys != 0, "0 keys cannot be read");
    let servers = plan.servers.find()?;
    let outcomes = crate::block_on(measure(plan, &servers))?;
    let text = report::markdown(plan, &servers, &outcomes);
    table::publish(plan.out.as_deref(), "bulk.md", text)
}

/// By work, then by server.
async fn measure(plan: &Plan, servers: &[Server]) -> Result<Vec<Vec<Option<Outcome>>>> {
    let progress = progress::bar(servers.len() * plan.works.len());
    let mut outcomes = vec![Vec::new(); plan.works.len()];
    for server in servers {
        let mut cluster = server.start(&plan.servers, 1).await?;
        let url = cluster.endpoints()[0].clone();
        progress.set_message(format!("{}: {} keys", server.name, plan.keys));
        let keys = (0..plan.keys).map(|number| (reads::key(number), 0));
        calls::put_all(&url, keys, plan.value_bytes).await?;
        for (work, outcomes) in plan.works.iter().zip(&mut outcomes) {
            progress.set_message(format!("{}: {work:?}", server.name));
            let is_missing = *work == Work::Stream && server.is_etcd();
            let outcome = match work {
                _ if is_missing => None,
                Work::Expiry => Some(expiry(plan, &mut cluster).await),
                Work::Pages | Work::Stream => Some(reading(plan, *work, &cluster).await),
            };
            cluster.members[0].alive()?;
            let outcome = outcome.transpose().with_context(|| cluster.log_tails())?;
            outcomes.push(outcome);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

/// Reads all keys beside the puts.
async fn reading(plan: &Plan, work: Work, cluster: &Cluster) -> Result<Outcome> {
    let (url, pid) = (cluster.endpoints()[0].clone(), cluster.pids()[0]);
    let alone = puts(plan, &url).run(plan.window()).await?;
    let idle = settled(pid).await?;
    let (puts, window) = (puts(plan, &url), plan.window());
    // On a thread of its own: the reading of answers must not delay the puts.
    let beside = std::thread::spawn(move || on_thread(puts, window));
    let peak = tokio::spawn(peak(pid, Instant::now() + window));
    let begin = Instant::now();
    let beside = Arc::new(beside);
    let (plan, putting) = (plan.clone(), Arc::clone(&beside));
    let done = niced::on_thread(plan.client_nice, move || async move {
        reads::until(&plan, work, &url, || putting.is_finished()).await
    });
    let done = done.await?;
    let took = begin.elapsed();
    let beside = Arc::into_inner(beside).context("the reads go on")?;
    let beside = beside.join().map_err(|_| anyhow!("the puts panicked"))??;
    Ok(Outcome {
        alone,
        beside,
        idle,
        peak: peak.await??,
        done,
        took,
    })
}

/// Has all leases expire at once beside the puts: a member that is started again gives each lease
/// its whole time to live.
async fn expiry(plan: &Plan, cluster: &mut Cluster) -> Result<Outcome> {
    let url = cluster.endpoints()[0].clone();
    leases::grant_all(plan, &url).await?;
    cluster.kill(0);
    cluster.restart_all().await?;
    let (since, pid) = (Instant::now(), cluster.pids()[0]);
    let all = leases::left(plan, &url, since).await?;
    ensure!(all == plan.leases, "{all} leases: give a longer --ttl");
    let alone = puts(plan, &url).run(plan.window()).await?;
    let mut outcome = Outcome {
        alone,
        idle: settled(pid).await?,
        done: all,
        ..Outcome::default()
    };
    let mut begin = Instant::now();
    let mut left = all;
    while left != 0 {
        let slice_begin = Instant::now();
        let peak = tokio::spawn(peak(pid, slice_begin + SLICE));
        let beside = puts(plan, &url).run(SLICE).await?;
        left = leases::left(plan, &url, since).await?;
        if left == all {
            begin = Instant::now();
            continue;
        }
        outcome.beside.merge(&beside);
        outcome.peak = outcome.peak.max(peak.await??);
    }
    outcome.took = begin.elapsed();
    // They expired at once, and not one after another as they were granted.
    let leases = leases::live(&url).await?;
    ensure!(
        leases == 0,
        "{leases} leases are left, though their keys are gone"
    );
    let ttl = Duration::from_secs(plan.ttl.unsigned_abs());
    let early = begin.duration_since(since);
    ensure!(
        ttl / 2 < early,
        "the leases began to expire after {early:?}, before their time"
    );
    Ok(outcome)
}

fn puts(plan: &Plan, url: &str) -> Puts {
    Puts {
        urls: vec![url.to_owned()],
        keys: Keys::Distinct,
        watchers: PUT_KEYS,
        rate: plan.rate,
        value_bytes: plan.value_bytes,
        origin: Instant::now(),
    }
}

fn on_thread(puts: Puts, window: Duration) -> Result<Histogram> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(puts.run(window))
}

async fn settled(pid: u32) -> Result<u64> {
    tokio::time::sleep(SETTLE).await;
    Ok(usage::memory(pid)?.anonymous)
}

/// The peak of the anonymous memory of the process until that instant.
async fn peak(pid: u32, end: Instant) -> Result<u64> {
    let mut peak = 0;
    while Instant::now() < end {
        peak = peak.max(usage::memory(pid)?.anonymous);
        tokio::time::sleep(SAMPLE).await;
    }
    Ok(peak)
}
