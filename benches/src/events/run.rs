//! The order of a run: rounds, servers, cells.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::proc::usage;
use tokio::task::JoinSet;

use super::outcome::Outcome;
use super::plan::{Keys, Plan};
use super::puts::Puts;
use super::report::Report;
use super::streams::{self, Received};
use crate::cluster::wire;
use crate::measure;
use crate::progress;
use crate::server::{Server, in_turn};

/// How long all watchers may take to begin, and all events to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the plan, prints the table, writes the file.
///
/// # Errors
/// A server does not start, a watch ends, or an event does not arrive.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_no_baseline("events")?;
    let servers = plan.servers.find()?;
    let outcomes = crate::block_on(measure_all(plan, &servers))?;
    let report = Report {
        plan: plan.clone(),
        servers,
        outcomes,
    };
    print!("{}", report.markdown());
    plan.out.as_ref().map_or(Ok(()), |out| report.write(out))
}

/// By cell, then by server.
async fn measure_all(plan: &Plan, servers: &[Server]) -> Result<Vec<Vec<Outcome>>> {
    let progress = progress::bar(plan.rounds * servers.len() * plan.keys.len());
    let mut outcomes = vec![vec![Outcome::default(); servers.len()]; plan.keys.len()];
    for round in 1..=plan.rounds {
        for (cell, keys) in plan.keys.iter().enumerate() {
            for (place, server) in in_turn(servers, round) {
                let what = format!("round {round}: {} {keys:?}", server.name);
                progress.set_message(what.clone());
                let one = one_server(plan, server, *keys).await.context(what)?;
                outcomes[cell][place].merge(&one);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

async fn one_server(plan: &Plan, server: &Server, keys: Keys) -> Result<Outcome> {
    let mut cluster = server.start(&plan.servers, plan.members).await?;
    let (urls, pids) = (cluster.endpoints(), cluster.pids());
    let (plan, pids_of_load) = (plan.clone(), pids.clone());
    let load = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(cell(&plan, keys, urls, &pids_of_load))
    });
    let outcome = load.await.context("the load panicked")?;
    for member in &mut cluster.members {
        member.alive()?;
    }
    outcome.with_context(|| cluster.log_tails())
}

async fn cell(plan: &Plan, keys: Keys, urls: Vec<String>, pids: &[u32]) -> Result<Outcome> {
    let origin = Instant::now();
    let received = Received::new(origin);
    let mut streams = open(plan, keys, &urls, &received).await?;
    let puts = Puts {
        urls,
        keys,
        watchers: plan.watchers,
        rate: plan.rate,
        value_bytes: plan.value_bytes,
        origin,
    };
    // On a thread of its own: the reading of events must not delay the puts.
    let window = plan.window();
    let (cpu, begin) = (measure::cpu(pids)?, Instant::now());
    let puts = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(puts.run(window))
    });
    while !puts.is_finished() {
        fail_fast(&mut streams)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let puts = puts
        .join()
        .map_err(|_| anyhow::anyhow!("the puts panicked"))??;
    let expected = puts.total() * per_put(plan, keys);
    let due = Instant::now() + PATIENCE;
    while received.events.load(Ordering::Relaxed) < expected {
        fail_fast(&mut streams)?;
        let got = received.events.load(Ordering::Relaxed);
        ensure!(Instant::now() < due, "{got} of {expected} events arrived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let resident = pids.iter().map(|pid| Ok(usage::memory(*pid)?.resident));
    let resident: Result<Vec<u64>> = resident.collect();
    Ok(Outcome {
        puts,
        deliveries: received.latencies.lock().clone(),
        delivered: received.events.load(Ordering::Relaxed),
        server_cpu: measure::cpu(pids)? - cpu,
        seconds: begin.elapsed().as_secs_f64(),
        resident: resident?.into_iter().max().unwrap_or_default(),
    })
}

fn per_put(plan: &Plan, keys: Keys) -> u64 {
    match keys {
        Keys::None => 0,
        Keys::Shared => plan.watchers as u64,
        Keys::Distinct => 1,
    }
}

/// Opens all streams and waits until every watch has begun.
async fn open(
    plan: &Plan,
    keys: Keys,
    urls: &[String],
    received: &Arc<Received>,
) -> Result<JoinSet<Result<()>>> {
    let mut streams = JoinSet::new();
    if keys == Keys::None {
        return Ok(streams);
    }
    let mut wires = Vec::new();
    for number in 0..plan.connections {
        let url = &urls[number % urls.len()];
        wires.push((wire::open(url).await?, url.clone()));
    }
    for stream in 0..plan.streams {
        let (wire, url) = wires[stream % wires.len()].clone();
        let numbers = (stream..plan.watchers).step_by(plan.streams);
        let numbers = numbers.map(|number| if keys == Keys::Shared { 0 } else { number });
        let watch = streams::watch(wire, url, numbers.collect(), Arc::clone(received));
        streams.spawn(watch);
    }
    let due = Instant::now() + PATIENCE;
    while received.created.load(Ordering::Relaxed) < plan.watchers as u64 {
        fail_fast(&mut streams)?;
        ensure!(Instant::now() < due, "not all watches began");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(streams)
}

fn fail_fast(streams: &mut JoinSet<Result<()>>) -> Result<()> {
    match streams.try_join_next() {
        None => Ok(()),
        Some(ended) => match ended? {
            Ok(()) => bail!("a stream ended"),
            Err(error) => Err(error),
        },
    }
}
