//! The order of a run: rounds, servers, events.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use keelson_tests::proc::usage::{self, Memory};

use super::crowd::Watchers;
use super::outcome::Outcome;
use super::plan::Plan;
use super::report::Report;
use crate::files;
use crate::progress;
use crate::server::{Server, in_turn};

/// How long memory is left alone before it is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs the plan, prints the table, writes the file.
///
/// # Errors
/// A server does not start, or not every watcher gets every event.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_no_baseline("watchers")?;
    files::allow(plan.count)?;
    let servers = plan.servers.find_with_v2()?;
    let outcomes = crate::block_on(measure(plan, &servers))?;
    let report = Report {
        plan: plan.clone(),
        servers,
        outcomes,
    };
    print!("{}", report.markdown());
    plan.out.as_ref().map_or(Ok(()), |out| report.write(out))
}

async fn measure(plan: &Plan, servers: &[Server]) -> Result<Vec<Outcome>> {
    let steps = plan.rounds * servers.len() * (plan.count + plan.events);
    let progress = progress::bar(steps);
    let mut outcomes = vec![Outcome::default(); servers.len()];
    for round in 1..=plan.rounds {
        for (place, server) in in_turn(servers, round) {
            let what = format!("round {round}: {}", server.name);
            progress.set_message(what.clone());
            let one = one_server(plan, server, &progress).await.context(what)?;
            outcomes[place].merge(one);
        }
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

/// Measures one fresh server.
async fn one_server(plan: &Plan, server: &Server, progress: &ProgressBar) -> Result<Outcome> {
    let mut cluster = server.start(&plan.servers, 1).await?;
    let (url, pid) = (cluster.endpoints()[0].clone(), cluster.pids()[0]);
    let (plan, progress) = (plan.clone(), progress.clone());
    // Should this be interrupted, the server ends, and with it the watchers' thread.
    let watch = tokio::task::spawn_blocking(move || watch(&plan, &url, pid, &progress));
    let outcome = watch.await.context("the watchers panicked")?;
    cluster.members[0].alive()?;
    outcome.with_context(|| cluster.log_tails())
}

fn watch(plan: &Plan, url: &str, pid: u32, progress: &ProgressBar) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut watchers = Watchers::new(url, plan.stream)?;
    outcome.before.push(settled_memory(pid)?);
    let (begin, at) = (Instant::now(), progress.position());
    watchers.open(plan.count, |open| progress.set_position(at + open as u64))?;
    outcome.opening.push(begin.elapsed());
    outcome.open.push(settled_memory(pid)?);
    let cpu = usage::cpu(pid)?;
    for number in 1..=plan.events {
        outcome.deliveries.push(watchers.event(number)?);
        progress.inc(1);
    }
    outcome.cpu = usage::cpu(pid)? - cpu;
    outcome.delivered = (plan.events * plan.count) as u64;
    outcome.after.push(settled_memory(pid)?);
    Ok(outcome)
}

fn settled_memory(pid: u32) -> Result<Memory> {
    std::thread::sleep(SETTLE);
    usage::memory(pid)
}
