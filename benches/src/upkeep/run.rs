//! The order of a run: rounds, servers, works.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_tests::proc::cluster::Cluster;
use keelson_tests::proc::usage;

use super::clients::Clients;
use super::outcome::Outcome;
use super::plan::{Plan, WORKS, Work};
use super::{report, works};
use crate::niced;
use crate::progress;
use crate::server::in_turn;
use crate::table;

/// How often memory is read.
const SAMPLE: Duration = Duration::from_millis(20);

/// How long puts run before they are measured: their connections are open then.
const WARM_UP: Duration = Duration::from_millis(500);

/// Runs the plan, prints the table, writes the file.
///
/// # Errors
/// A server does not start, or refuses a call.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_no_baseline("upkeep")?;
    ensure!(
        plan.keys != 0 && plan.clients != 0 && plan.rounds != 0,
        "keys, clients and rounds are at least 1"
    );
    let outcomes = crate::block_on(measure(plan))?;
    let text = report::markdown(plan, &plan.servers.find()?, &outcomes);
    table::publish(plan.out.as_deref(), "upkeep.md", text)
}

/// By server, then by work.
async fn measure(plan: &Plan) -> Result<Vec<[Outcome; 3]>> {
    let servers = plan.servers.find()?;
    let progress = progress::bar(plan.rounds * servers.len() * WORKS.len());
    let mut outcomes = vec![<[Outcome; 3]>::default(); servers.len()];
    for round in 1..=plan.rounds {
        for (place, server) in in_turn(&servers, round) {
            progress.set_message(format!("{}: {} keys", server.name, plan.keys));
            let mut cluster = server.start(&plan.servers, plan.members).await?;
            let logs = |cluster: &Cluster| cluster.log_tails();
            works::put_all(plan, &cluster.endpoints()[0]).await?;
            for (work, sum) in WORKS.into_iter().zip(&mut outcomes[place]) {
                progress.set_message(format!("{}: {work:?}", server.name));
                let outcome = one(plan, work, &cluster).await;
                cluster.members[0].alive()?;
                sum.merge(&outcome.with_context(|| logs(&cluster))?);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

/// Measures one work.
async fn one(plan: &Plan, work: Work, cluster: &Cluster) -> Result<Outcome> {
    let (urls, pid) = (cluster.endpoints(), cluster.pids()[0]);
    works::prepare(plan, work, &urls[0]).await?;
    tokio::time::sleep(Duration::from_secs(plan.settle)).await;
    let mut clients = Clients::start(plan, &urls);
    tokio::time::sleep(WARM_UP).await;
    clients.measure();
    tokio::time::sleep(plan.window()).await;
    clients.end_measure();
    let (alone, rate_alone) = clients.stop()?;
    let idle = usage::memory(pid)?.anonymous;

    let mut clients = Clients::start(plan, &urls);
    tokio::time::sleep(WARM_UP).await;
    clients.measure();
    let begin = Instant::now();
    let (of_work, url) = (plan.clone(), urls[0].clone());
    let doing = niced::on_thread(plan.client_nice, move || async move {
        works::work(&of_work, work, &url).await
    });
    let (bytes, peak) = watched(doing, pid, &clients).await?;
    let took = begin.elapsed();
    clients.end_measure();
    let (beside, rate) = clients.stop()?;
    Ok(Outcome {
        alone,
        beside,
        rates: vec![rate / rate_alone.max(1e-9)],
        took,
        bytes,
        growth: peak.saturating_sub(idle),
    })
}

/// Awaits the work: its bytes, and the peak of the member's anonymous memory.
async fn watched(
    doing: impl Future<Output = Result<u64>>,
    pid: u32,
    clients: &Clients,
) -> Result<(u64, u64)> {
    let mut doing = std::pin::pin!(doing);
    let mut peak = 0;
    loop {
        let done = tokio::select! {
            bytes = &mut doing => Some(bytes?),
            () = tokio::time::sleep(SAMPLE) => None,
        };
        peak = peak.max(usage::memory(pid)?.anonymous);
        // The error is that of `stop`.
        if let Some(bytes) = done.or_else(|| clients.have_failed().then_some(0)) {
            return Ok((bytes, peak));
        }
    }
}
