//! Clients that watch through faults, as clientv3 does, and a record of all that they receive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::check::watch::{CheckedWatch, EventLog};
use crate::proc::client;

/// The interval of a watcher's progress requests.
const PROGRESS: Duration = Duration::from_millis(50);
/// The pause before the next member is tried.
const AGAIN: Duration = Duration::from_millis(20);

/// A watcher to be started.
#[derive(Clone, Debug)]
pub struct WatcherPlan {
    /// The first request. Later ones start where the last stream ended.
    pub request: WatchCreateRequest,
    /// The member of the first stream.
    pub first: usize,
    /// A member that sends nothing for this long is given up.
    pub patience: Duration,
}

/// What happened to a watcher, in order.
#[derive(Clone, Debug)]
pub enum Seen {
    /// It was created on a stream with this request.
    Asked(WatchCreateRequest),
    /// It received a response.
    Response(WatchResponse),
}

/// The records of all watchers.
#[derive(Debug, Default)]
pub struct WatchRecords {
    /// Of each watcher.
    pub all: Vec<Vec<Seen>>,
}

/// Running watchers.
#[derive(Debug)]
pub struct Watchers {
    stop: Arc<AtomicBool>,
    /// The first revision whose events a watcher has not been sent.
    positions: Vec<Arc<AtomicI64>>,
    tasks: JoinSet<Vec<Seen>>,
}

impl Watchers {
    /// Starts watchers of the cluster at these endpoints.
    pub fn start(endpoints: &[String], plans: Vec<WatcherPlan>) -> Watchers {
        let mut watchers = Watchers {
            stop: Arc::default(),
            positions: Vec::new(),
            tasks: JoinSet::new(),
        };
        for plan in plans {
            let position = Arc::new(AtomicI64::new(0));
            watchers.positions.push(Arc::clone(&position));
            let watcher = Watcher {
                endpoints: endpoints.to_vec(),
                plan,
                next: 0,
                position,
                stop: Arc::clone(&watchers.stop),
                seen: Vec::new(),
            };
            watchers.tasks.spawn(watcher.run());
        }
        watchers
    }

    /// Waits until each watcher has been sent everything up to a revision.
    ///
    /// # Errors
    /// One has not within `limit`.
    pub async fn reach(&self, revision: i64, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        let positions = || self.positions.iter().map(|at| at.load(Ordering::Relaxed));
        while positions().any(|at| at <= revision) {
            if limit < begin.elapsed() {
                let positions: Vec<i64> = positions().collect();
                bail!("watchers are at {positions:?}, not {revision}, after {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends the watchers and returns their records.
    pub async fn stop(mut self) -> WatchRecords {
        self.stop.store(true, Ordering::Relaxed);
        let mut records = WatchRecords::default();
        while let Some(seen) = self.tasks.join_next().await {
            records.all.push(seen.expect("a watcher does not panic"));
        }
        records
    }
}

struct Watcher {
    endpoints: Vec<String>,
    plan: WatcherPlan,
    /// The first revision that it needs; 0 until that is known.
    next: i64,
    position: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    seen: Vec<Seen>,
}

impl Watcher {
    async fn run(mut self) -> Vec<Seen> {
        let mut member = self.plan.first;
        while !self.stop.load(Ordering::Relaxed) {
            let url = self.endpoints[member % self.endpoints.len()].clone();
            // However the stream ends, the next member is tried.
            let _ = self.watch_at(&url).await;
            member += 1;
            tokio::time::sleep(AGAIN).await;
        }
        self.seen
    }

    /// One stream, until it fails.
    async fn watch_at(&mut self, url: &str) -> Result<()> {
        let (requests, receiver) = mpsc::channel(4);
        let start_revision = match self.next {
            0 => self.plan.request.start_revision,
            next => next,
        };
        let create = WatchCreateRequest {
            start_revision,
            ..self.plan.request.clone()
        };
        let union = RequestUnion::CreateRequest(create.clone());
        requests.send(request(union)).await?;
        let mut client = WatchClient::new(client::lazy(url)).max_decoding_message_size(64 << 20);
        let call = client.watch(ReceiverStream::new(receiver));
        let call = tokio::time::timeout(self.plan.patience, call).await??;
        self.seen.push(Seen::Asked(create));
        self.read(&requests, call.into_inner()).await
    }

    async fn read(
        &mut self,
        requests: &mpsc::Sender<WatchRequest>,
        mut responses: Streaming<WatchResponse>,
    ) -> Result<()> {
        let mut heard = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            match tokio::time::timeout(PROGRESS, responses.message()).await {
                Ok(response) => {
                    heard = Instant::now();
                    self.take(response?.context("the stream ended")?)?;
                }
                Err(_) => {
                    ensure!(heard.elapsed() < self.plan.patience, "silence");
                    let union = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    // A full channel: the member does not read.
                    let _ = requests.try_send(request(union));
                }
            }
        }
        Ok(())
    }

    /// Records the response, also one that ends the watch, and moves on.
    fn take(&mut self, response: WatchResponse) -> Result<()> {
        self.seen.push(Seen::Response(response.clone()));
        let at = response.header.as_ref().map_or(0, |header| header.revision);
        let last = response.events.last().and_then(|event| event.kv.as_ref());
        let next = match last.map(|kv| kv.mod_revision) {
            _ if response.fragment => self.next,
            Some(revision) => revision + 1,
            None if response.created && self.next == 0 => match self.plan.request.start_revision {
                0 => at + 1,
                start => start,
            },
            None if response.created => self.next,
            // Its client reads the present state, and watches from there on.
            None if response.compact_revision != 0 => response.compact_revision,
            None if response.canceled => bail!("refused: {}", response.cancel_reason),
            None => at + 1,
        };
        self.next = next.max(self.next);
        self.position.store(self.next, Ordering::Relaxed);
        ensure!(!response.canceled, "the watch is over");
        Ok(())
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

impl WatchRecords {
    /// Every response that a watcher received.
    pub fn responses(&self) -> impl Iterator<Item = &WatchResponse> {
        self.all.iter().flatten().filter_map(|seen| match seen {
            Seen::Response(response) => Some(response),
            Seen::Asked(_) => None,
        })
    }

    /// The highest revision of an event that a watcher received.
    pub fn last_event(&self) -> i64 {
        let events = self.responses().flat_map(|response| &response.events);
        let revisions = events.filter_map(|event| event.kv.as_ref().map(|kv| kv.mod_revision));
        revisions.max().unwrap_or(0)
    }

    /// Checks each watcher's record by the committed events, up to a revision that all have
    /// reached. Returns the number of events.
    ///
    /// # Errors
    /// A check fails; the text names it.
    pub fn check(&self, upto: i64, log: &EventLog) -> Result<u64> {
        let mut events = 0;
        for (number, seen) in self.all.iter().enumerate() {
            let checked = check_one(seen, upto, log);
            let checked = checked.map_err(anyhow::Error::msg);
            events += checked.with_context(|| format!("watcher {number}"))?;
        }
        Ok(events)
    }
}

fn check_one(seen: &[Seen], upto: i64, log: &EventLog) -> Result<u64, String> {
    let mut watch: Option<CheckedWatch> = None;
    let mut events = 0;
    for seen in seen {
        match (seen, &mut watch) {
            (Seen::Asked(request), Some(going)) if !going.is_over() => {
                let expected = going.resume().start_revision;
                if request.start_revision != expected {
                    return Err(format!("the client went on at {request:?}, not {expected}"));
                }
            }
            (Seen::Asked(request), _) => {
                events += watch.take().map_or(0, |watch| watch.events);
                watch = Some(CheckedWatch::new(request.clone()));
            }
            (Seen::Response(response), Some(watch)) if response.watch_id == -1 => {
                let at = response.header.as_ref().map_or(0, |header| header.revision);
                watch.progress(at, log)?;
            }
            (Seen::Response(response), Some(watch)) => watch.receive(response, log)?,
            (Seen::Response(response), None) => return Err(format!("of no watch: {response:?}")),
        }
    }
    let watch = watch.ok_or("a watcher without a stream")?;
    // The watchers were stopped after their positions were beyond this revision.
    watch.complete(upto, log)?;
    Ok(events + watch.events)
}
