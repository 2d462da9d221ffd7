//! What a load and the processes under it cost, measured over a window.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keelson_tests::proc::usage::{self, Memory, Meter};
use tokio::task::JoinHandle;

use crate::tally::{Tally, Window};

/// How often memory and threads are read. It costs the kernel a walk of counters only.
const SAMPLE: Duration = Duration::from_millis(200);

/// A load at work on a thread of its own.
pub type Load = JoinHandle<Result<Tally>>;

/// What was measured; several rounds of a cell add up.
#[derive(Clone, Debug, Default)]
pub struct Measure {
    /// Latencies and errors.
    pub tally: Tally,
    /// Requests that succeeded.
    pub requests: u64,
    /// Seconds measured.
    pub seconds: f64,
    /// CPU of all processes in that time.
    pub server_cpu: Duration,
    /// CPU of the load generator in that time.
    pub client_cpu: Duration,
    /// Peak of the process that peaked highest.
    pub memory: Memory,
    /// Requests per second of each round.
    pub rates: Vec<f64>,
    /// CPU of all processes, in microseconds a request, of each round.
    pub cpu_micros: Vec<f64>,
}

impl Measure {
    /// Adds another round.
    pub fn merge(&mut self, other: &Measure) {
        self.tally.merge(&other.tally);
        self.requests += other.requests;
        self.seconds += other.seconds;
        self.server_cpu += other.server_cpu;
        self.client_cpu += other.client_cpu;
        self.memory = peak(self.memory, other.memory);
        self.rates.extend_from_slice(&other.rates);
        self.cpu_micros.extend_from_slice(&other.cpu_micros);
    }

    /// Requests that succeeded, a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// A quantile of the latencies, in milliseconds.
    pub fn millis(&self, quantile: f64) -> f64 {
        self.tally.latencies.quantile(quantile).as_secs_f64() * 1e3
    }

    /// CPU of all processes, in microseconds a request.
    pub fn server_cpu_micros(&self) -> f64 {
        self.per_request(self.server_cpu)
    }

    /// CPU of the load generator, in microseconds a request.
    pub fn client_cpu_micros(&self) -> f64 {
        self.per_request(self.client_cpu)
    }

    fn per_request(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }
}

/// The higher of both, figure by figure.
pub fn peak(one: Memory, other: Memory) -> Memory {
    Memory {
        resident: one.resident.max(other.resident),
        anonymous: one.anonymous.max(other.anonymous),
    }
}

/// Measures the processes while the loads run, until the window closes.
///
/// # Errors
/// A load fails, or a process is gone.
pub async fn measure(window: Window, pids: &[u32], loads: Vec<Load>) -> Result<Measure> {
    tokio::time::sleep_until(window.from.into()).await;
    let mut client = Meter::start(std::process::id())?;
    let mut servers = Watched::start(pids)?;
    servers.until(window.to).await?;
    client.look()?;
    let mut measure = Measure {
        seconds: (window.to - window.from).as_secs_f64(),
        server_cpu: servers.cpu(),
        client_cpu: client.used(),
        memory: servers.memory,
        ..Measure::default()
    };
    for load in loads {
        let tally = load.await.context("a load thread panicked")?;
        measure.tally.merge(&tally?);
    }
    measure.requests = measure.tally.latencies.total();
    measure.rates.push(measure.rate());
    measure.cpu_micros.push(measure.server_cpu_micros());
    Ok(measure)
}

/// CPU of all the processes so far, in ticks.
///
/// # Errors
/// One is gone.
pub fn cpu(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| usage::cpu(*pid)).sum()
}

/// Processes while a load runs.
#[derive(Debug)]
pub struct Watched {
    /// Peak of the largest.
    pub memory: Memory,
    meters: Vec<(u32, Meter)>,
}

impl Watched {
    /// Begins.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn start(pids: &[u32]) -> Result<Watched> {
        let meters = pids.iter().map(|pid| Ok((*pid, Meter::start(*pid)?)));
        Ok(Watched {
            memory: Memory::default(),
            meters: meters.collect::<Result<_>>()?,
        })
    }

    /// Looks at all of them, now and then, until that instant.
    ///
    /// # Errors
    /// One is gone.
    pub async fn until(&mut self, end: Instant) -> Result<()> {
        loop {
            for (pid, meter) in &mut self.meters {
                self.memory = peak(self.memory, usage::memory(*pid)?);
                meter.look()?;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(SAMPLE)).await;
        }
    }

    /// CPU that they have used until the last look.
    pub fn cpu(&self) -> Duration {
        self.meters.iter().map(|(_, meter)| meter.used()).sum()
    }
}
