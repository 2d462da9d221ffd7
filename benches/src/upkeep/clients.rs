//! Puts in a closed loop, until they are stopped.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use keelson_proto::etcdserverpb::PutRequest;
use tokio::task::LocalSet;

use super::plan::Plan;
use crate::cluster::load;
use crate::cluster::wire::{self, Kv};
use crate::histogram::Histogram;

/// Distinct keys of the puts.
const KEYS: u64 = 10_000;

/// Clients at work on a thread of their own. Dropping them stops them.
#[derive(Debug)]
pub struct Clients {
    stops: Arc<AtomicBool>,
    measures: Arc<AtomicBool>,
    begin: Instant,
    took: Duration,
    thread: Option<JoinHandle<Result<Histogram>>>,
}

impl Clients {
    /// Starts the clients, spread over the members.
    pub fn start(plan: &Plan, urls: &[String]) -> Clients {
        let (stops, measures) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let flags = Flags(Arc::clone(&stops), Arc::clone(&measures));
        let (plan, urls) = (plan.clone(), urls.to_vec());
        Clients {
            stops,
            measures,
            begin: Instant::now(),
            took: Duration::ZERO,
            thread: Some(std::thread::spawn(move || on_thread(&plan, &urls, flags))),
        }
    }

    /// Measures from now on: the connections are open.
    pub fn measure(&mut self) {
        self.begin = Instant::now();
        self.measures.store(true, Ordering::Relaxed);
    }

    /// Measures no longer: the work has ended.
    pub fn end_measure(&mut self) {
        self.took = self.begin.elapsed();
        self.measures.store(false, Ordering::Relaxed);
    }

    /// Whether a client has failed, which ends all of them.
    pub fn have_failed(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops them: the latencies, and the puts a second.
    ///
    /// # Errors
    /// A put failed.
    pub fn stop(mut self) -> Result<(Histogram, f64)> {
        self.stops.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("stopped twice"))?;
        let latencies = thread.join().map_err(|_| anyhow!("the puts panicked"))??;
        let rate = latencies.total() as f64 / self.took.as_secs_f64().max(1e-9);
        Ok((latencies, rate))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
    }
}

/// Whether to stop, and whether to measure.
#[derive(Clone)]
struct Flags(Arc<AtomicBool>, Arc<AtomicBool>);

fn on_thread(plan: &Plan, urls: &[String], flags: Flags) -> Result<Histogram> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(drive(plan, urls, flags)))
}

async fn drive(plan: &Plan, urls: &[String], flags: Flags) -> Result<Histogram> {
    let latencies = Rc::new(RefCell::new(Histogram::default()));
    let next = Arc::new(AtomicU64::new(0));
    let value = Bytes::from(vec![b'v'; plan.value_bytes]);
    let mut clients = Vec::new();
    for number in 0..plan.clients {
        let url = &urls[number % urls.len()];
        let kv = Kv::with_origin(wire::open(url).await?, url.parse()?);
        let (latencies, next) = (Rc::clone(&latencies), Arc::clone(&next));
        let (value, flags) = (value.clone(), flags.clone());
        clients.push(tokio::task::spawn_local(client(
            kv, value, next, flags, latencies,
        )));
    }
    for client in clients {
        client.await??;
    }
    Ok(latencies.take())
}

async fn client(
    mut kv: Kv,
    value: Bytes,
    next: Arc<AtomicU64>,
    Flags(stops, measures): Flags,
    latencies: Rc<RefCell<Histogram>>,
) -> Result<()> {
    let mut begin = Instant::now();
    while !stops.load(Ordering::Relaxed) {
        let put = PutRequest {
            key: load::key(next.fetch_add(1, Ordering::Relaxed) % KEYS),
            value: value.clone(),
            ..PutRequest::default()
        };
        let outcome = kv.put(put).await;
        if outcome.is_err() {
            stops.store(true, Ordering::Relaxed);
        }
        outcome?;
        let end = Instant::now();
        if measures.load(Ordering::Relaxed) {
            latencies.borrow_mut().record(end - begin);
        }
        begin = end;
    }
    Ok(())
}
