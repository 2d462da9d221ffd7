//! A light load of reads through every host, as the programs on a host make it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_tests::http::Request;
use tokio::task::JoinHandle;

use super::load::{V2_PATH, v3_key};
use super::plan::Api;
use crate::cluster::wire::{self, Kv};
use crate::http1::connection::Connection;
use crate::http1::host;
/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The reads, until it is stopped or dropped.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Reads>>>,
}

/// The outcomes of the reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reads {
    /// Answered.
    pub good: u64,
    /// Not answered, or with an error.
    pub bad: u64,
}

impl Background {
    /// Reads `per_second` times a second through each of the hosts, one after the other.
    pub fn start(api: Api, urls: Vec<String>, per_second: f64) -> Background {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(read(api, &urls, per_second, &told))
        });
        Background {
            stop,
            thread: Some(thread),
        }
    }

    /// Stops them.
    ///
    /// # Errors
    /// A host accepted no connection.
    pub async fn stop(mut self) -> Result<Reads> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped already")?;
        thread.await.context("the reading thread panicked")?
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A host's connection.
enum Reader {
    V2(Box<Connection>, Vec<u8>),
    V3(Kv),
}

impl Reader {
    async fn open(api: Api, url: &str) -> Result<Reader> {
        Ok(match api {
            Api::V2 => {
                let host = host(url)?;
                let connection = Box::new(Connection::open(host)?);
                Reader::V2(connection, Request::get(V2_PATH).encode(host))
            }
            Api::V3 => Reader::V3(wire::connect(url).await?),
        })
    }

    async fn read(&mut self) -> Result<()> {
        match self {
            Reader::V2(connection, request) => {
                let (status, _) = connection.exchange(request)?;
                ensure!(status == 200, "HTTP {status}");
            }
            Reader::V3(kv) => {
                let range = RangeRequest {
                    key: v3_key().into(),
                    serializable: true,
                    ..Default::default()
                };
                tokio::time::timeout(PATIENCE, kv.range(range)).await??;
            }
        }
        Ok(())
    }
}

async fn read(api: Api, urls: &[String], per_second: f64, stop: &AtomicBool) -> Result<Reads> {
    let mut reads = Reads::default();
    if per_second <= 0.0 || urls.is_empty() {
        return Ok(reads);
    }
    let mut readers = Vec::new();
    for url in urls {
        readers.push(Reader::open(api, url).await?);
    }
    let pause = Duration::from_secs_f64(1.0 / (per_second * urls.len() as f64));
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for (url, reader) in urls.iter().zip(&mut readers) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // Late reads are left out, not made up for.
            due = (due + pause).max(Instant::now());
            tokio::time::sleep_until(due.into()).await;
            match reader.read().await {
                Ok(()) => reads.good += 1,
                Err(_) => {
                    reads.bad += 1;
                    *reader = Reader::open(api, url).await?;
                }
            }
        }
    }
    Ok(reads)
}
