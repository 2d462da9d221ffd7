//! One cell: one operation on a running cluster, measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keelson_tests::proc::cluster::Cluster;
use keelson_tests::proc::usage::{self, Memory};

use super::load::{Share, Tally, Window};
use super::plan::{Op, Plan};

/// How often memory is read. Reading it costs the kernel a walk of the page tables' counters only.
const SAMPLE: Duration = Duration::from_millis(200);

/// What was measured; several rounds of a cell add up.
#[derive(Clone, Debug, Default)]
pub struct Measure {
    /// Latencies and errors.
    pub tally: Tally,
    /// Seconds measured.
    pub seconds: f64,
    /// CPU of all members in that time.
    pub server_cpu: Duration,
    /// CPU of the load generator in that time.
    pub client_cpu: Duration,
    /// Peak of the member that peaked highest.
    pub memory: Memory,
    /// Requests per second of each round.
    pub rates: Vec<f64>,
}

impl Measure {
    /// Adds another round.
    pub fn merge(&mut self, other: &Measure) {
        self.tally.merge(&other.tally);
        self.seconds += other.seconds;
        self.server_cpu += other.server_cpu;
        self.client_cpu += other.client_cpu;
        self.memory = peak(self.memory, other.memory);
        self.rates.extend_from_slice(&other.rates);
    }

    /// Requests that succeeded, a second.
    pub fn rate(&self) -> f64 {
        self.tally.latencies.total() as f64 / self.seconds
    }

    /// CPU of all members, in microseconds a request.
    pub fn server_cpu_micros(&self) -> f64 {
        self.per_request(self.server_cpu)
    }

    /// CPU of the load generator, in microseconds a request.
    pub fn client_cpu_micros(&self) -> f64 {
        self.per_request(self.client_cpu)
    }

    fn per_request(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / (self.tally.latencies.total().max(1)) as f64
    }
}

fn peak(one: Memory, other: Memory) -> Memory {
    Memory {
        resident: one.resident.max(other.resident),
        anonymous: one.anonymous.max(other.anonymous),
    }
}

/// Runs the operation on the cluster and measures it.
///
/// # Errors
/// A member does not accept, or ends by itself.
pub async fn run(
    plan: &Plan,
    op: Op,
    cluster: &mut Cluster,
    next_key: &Arc<AtomicU64>,
) -> Result<Measure> {
    let from = Instant::now() + plan.warm_up();
    let window = Window {
        from,
        to: from + plan.measured(),
    };
    let shares = Share::cut(plan, op, &cluster.endpoints(), next_key);
    let threads: Vec<_> = shares
        .into_iter()
        .map(|share| tokio::task::spawn_blocking(move || share.run(window)))
        .collect();

    tokio::time::sleep_until(window.from.into()).await;
    let pids: Vec<u32> = cluster
        .members
        .iter()
        .filter_map(|member| member.pid())
        .collect();
    let before = (servers_cpu(&pids)?, usage::cpu(std::process::id())?);
    let memory = watch_memory(&pids, window.to).await?;
    let after = (servers_cpu(&pids)?, usage::cpu(std::process::id())?);

    let mut measure = Measure {
        seconds: plan.measured().as_secs_f64(),
        server_cpu: after.0 - before.0,
        client_cpu: after.1 - before.1,
        memory,
        ..Measure::default()
    };
    for thread in threads {
        let tally = thread.await.context("a load thread panicked")?;
        measure.tally.merge(&tally?);
    }
    for member in &mut cluster.members {
        member.alive()?;
    }
    measure.rates.push(measure.rate());
    Ok(measure)
}

fn servers_cpu(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| usage::cpu(*pid)).sum()
}

/// Reads every member's memory until `end`; returns the peak of the largest.
async fn watch_memory(pids: &[u32], end: Instant) -> Result<Memory> {
    let mut highest = Memory::default();
    loop {
        for pid in pids {
            highest = peak(highest, usage::memory(*pid)?);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(highest);
        }
        tokio::time::sleep(left.min(SAMPLE)).await;
    }
}

/// Which cell: members, place of the operation in the plan, place of the server.
pub type Key = (usize, usize, usize);

/// All cells of a run.
pub type Cells = BTreeMap<Key, Measure>;
