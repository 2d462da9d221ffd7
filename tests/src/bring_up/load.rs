//! Clients behind proxies. Each is the only writer of its keys, so that a write that is executed
//! twice, or not at all, is detected.
//!
//! A counter moves from attempt to attempt by compare-and-swap: a swap that is executed twice is
//! answered with 412, and the value is the attempt's own. Values are posted to a queue in order,
//! each once. Reads must not fail, whichever members die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinSet;

use crate::http::{Client, Reply, Request};
use crate::proc::client;

/// Above the seven seconds for which a proxy holds a request and a member processes one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two requests of a client: all members share two cores.
const PAUSE: Duration = Duration::from_millis(4);

/// Clients of each kind on each proxy.
const CLIENTS: usize = 3;

/// The values of one queue, with their outcomes.
#[derive(Debug, Default)]
struct Queue {
    acked: Vec<String>,
    uncertain: BTreeSet<String>,
}

/// The results of all clients.
#[derive(Debug, Default)]
pub struct Seen {
    /// The number of answered reads.
    pub reads: u64,
    /// The number of acknowledged writes.
    pub writes: u64,
    /// The number of writes of unknown outcome.
    pub uncertain: u64,
    /// Violations.
    pub wrong: Vec<String>,
    queues: BTreeMap<String, Queue>,
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Result<Seen>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    writes: AtomicU64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Load {
    /// Starts clients of every kind on each proxy.
    ///
    /// # Errors
    /// A key cannot be made.
    pub async fn start(proxies: &[String]) -> Result<Load> {
        let shared = Arc::<Shared>::default();
        let mut clients = JoinSet::new();
        for (proxy, url) in proxies.iter().enumerate() {
            for number in 0..CLIENTS {
                let id = format!("{proxy}-{number}");
                let counter = Counter::new(url, &id).await?;
                let reader = Reader::new(url, counter.key.clone(), number);
                clients.spawn(counter.run(Arc::clone(&shared)));
                clients.spawn(reader.run(Arc::clone(&shared)));
                clients.spawn(post(url.clone(), id, Arc::clone(&shared)));
            }
        }
        Ok(Load { shared, clients })
    }

    /// Waits until `count` more writes are acknowledged.
    ///
    /// # Errors
    /// They are not.
    pub async fn progress(&self, count: u64) -> Result<()> {
        let target = self.shared.writes.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + PATIENCE;
        while self.shared.writes.load(Ordering::Relaxed) < target {
            ensure!(
                Instant::now() < deadline,
                "no {count} writes in {PATIENCE:?}"
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Lets every client finish its request.
    ///
    /// # Errors
    /// A client could not go on.
    pub async fn stop(mut self) -> Result<Seen> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        while let Some(seen) = self.clients.join_next().await {
            let seen = seen.context("a client panicked")??;
            all.reads += seen.reads;
            all.writes += seen.writes;
            all.uncertain += seen.uncertain;
            all.wrong.extend(seen.wrong);
            all.queues.extend(seen.queues);
        }
        Ok(all)
    }
}

impl Seen {
    /// Compares the acknowledged writes with the stored data.
    ///
    /// # Errors
    /// A value is lost, repeated or out of order, or a read failed.
    pub async fn verify(&self, member: &str) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{:#?}", self.wrong);
        for (directory, queue) in &self.queues {
            let there = values(member, directory).await?;
            let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
            for value in &there {
                *counts.entry(value).or_default() += 1;
            }
            let twice: Vec<_> = counts.iter().filter(|(_, count)| 1 < **count).collect();
            ensure!(twice.is_empty(), "{directory}: there twice: {twice:?}");
            let told: BTreeSet<&str> = queue.acked.iter().map(String::as_str).collect();
            let kept: Vec<&String> = there
                .iter()
                .filter(|value| told.contains(value.as_str()))
                .collect();
            ensure!(
                kept.iter().copied().eq(queue.acked.iter()),
                "{directory}: acknowledged, and lost or out of order: {:?}, there: {there:?}",
                queue.acked
            );
            let strange = there.iter().find(|value| {
                !told.contains(value.as_str()) && !queue.uncertain.contains(value.as_str())
            });
            ensure!(
                strange.is_none(),
                "{directory}: refused, and there: {strange:?}"
            );
        }
        Ok(())
    }

    fn told(&mut self, shared: &Shared) {
        self.writes += 1;
        shared.writes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The values below a directory in the order of their keys.
async fn values(url: &str, directory: &str) -> Result<Vec<String>> {
    let target = format!("{directory}?recursive=true&sorted=true&quorum=true");
    let reply = Client::new(url).ask(&Request::get(target)).await?;
    let json = reply
        .json()
        .with_context(|| format!("{directory}: {reply}"))?;
    let nodes = json["node"]["nodes"].as_array().cloned();
    let value = |node: &serde_json::Value| node["value"].as_str().map(str::to_owned);
    Ok(nodes.unwrap_or_default().iter().filter_map(value).collect())
}

/// Whether the answer leaves a write's outcome open: etcd's error 300.
fn is_uncertain(reply: &Reply) -> bool {
    let code = reply.json().and_then(|json| json["errorCode"].as_u64());
    reply.status == 500 && code == Some(300)
}

/// The only writer of its key.
struct Counter {
    client: Client,
    key: String,
    now: String,
    /// Attempts that may still be found.
    uncertain: BTreeSet<String>,
    seen: Seen,
}

impl Counter {
    async fn new(url: &str, id: &str) -> Result<Counter> {
        let mut client = Client::once(url, PATIENCE);
        let key = format!("/v2/keys/counters/{id}");
        let made = Request::put(format!("{key}?prevExist=false"), "value=0");
        let reply = client.ask(&made).await?;
        ensure!(reply.status == 201, "{made}: {reply}");
        Ok(Counter {
            client,
            key,
            now: "0".to_owned(),
            uncertain: BTreeSet::new(),
            seen: Seen::default(),
        })
    }

    async fn run(mut self, shared: Arc<Shared>) -> Result<Seen> {
        let mut attempt = 0_u64;
        while !shared.stopped() {
            attempt += 1;
            self.swap(attempt.to_string(), &shared).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(self.seen)
    }

    async fn swap(&mut self, new: String, shared: &Shared) -> Result<()> {
        let target = format!("{}?prevValue={}", self.key, self.now);
        let request = Request::put(target, format!("value={new}"));
        let reply = self.client.ask(&request).await;
        match &reply {
            Ok(reply) if reply.status == 200 => {
                self.seen.told(shared);
                self.now = new;
                return Ok(());
            }
            Ok(reply) if reply.status == 412 => {
                // Only an earlier attempt of this client can have come between.
                let now = self.read().await?;
                if !self.uncertain.contains(&now) {
                    let wrong = format!("{request}: {reply}, and now it is {now}");
                    self.seen.wrong.push(wrong);
                }
                self.now = now;
                return Ok(());
            }
            Ok(reply) if is_uncertain(reply) => {
                self.seen.uncertain += 1;
                self.uncertain.insert(new);
            }
            other => self.seen.wrong.push(format!("{request}: {}", show(other))),
        }
        self.now = self.read().await?;
        Ok(())
    }

    async fn read(&mut self) -> Result<String> {
        let request = Request::get(format!("{}?quorum=true", self.key));
        let reply = self.client.ask(&request).await;
        let value = reply.as_ref().ok().and_then(value_of);
        self.seen.reads += 1;
        match value {
            Some(value) => Ok(value),
            None => bail!("{request}: {}", show(&reply)),
        }
    }
}

fn value_of(reply: &Reply) -> Option<String> {
    let json = reply.json().filter(|_| reply.status == 200)?;
    Some(json["node"]["value"].as_str()?.to_owned())
}

fn show(answer: &Result<Reply>) -> String {
    match answer {
        Ok(reply) => reply.to_string(),
        Err(error) => format!("{error:#}"),
    }
}

/// Reads a counter with every kind of read.
struct Reader {
    client: Client,
    kv: KvClient<tonic::transport::Channel>,
    key: String,
    number: usize,
    seen: Seen,
}

impl Reader {
    fn new(url: &str, key: String, number: usize) -> Reader {
        Reader {
            client: Client::once(url, PATIENCE),
            kv: KvClient::new(client::lazy(url)),
            key,
            number,
            seen: Seen::default(),
        }
    }

    async fn run(mut self, shared: Arc<Shared>) -> Result<Seen> {
        let mut newest = 0_u64;
        while !shared.stopped() {
            match self.number % 3 {
                0 => drop(self.get("").await),
                1 => {
                    let value = self.get("?quorum=true").await;
                    let attempt = value.and_then(|value| value.parse().ok()).unwrap_or(newest);
                    if attempt < newest {
                        let wrong = format!("{}: {attempt} after {newest}", self.key);
                        self.seen.wrong.push(wrong);
                    }
                    newest = attempt;
                }
                _ => self.range().await,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(self.seen)
    }

    async fn get(&mut self, query: &str) -> Option<String> {
        let request = Request::get(format!("{}{query}", self.key));
        let reply = self.client.ask(&request).await;
        let value = reply.as_ref().ok().and_then(value_of);
        self.seen.reads += 1;
        if value.is_none() {
            self.seen.wrong.push(format!("{request}: {}", show(&reply)));
        }
        value
    }

    /// One range with a quorum, one without.
    async fn range(&mut self) {
        let serializable = self.seen.reads.is_multiple_of(2);
        let request = RangeRequest {
            key: "any".into(),
            serializable,
            ..Default::default()
        };
        self.seen.reads += 1;
        let answer = tokio::time::timeout(PATIENCE, self.kv.range(request)).await;
        let wrong = match answer {
            Ok(Ok(_)) => return,
            Ok(Err(status)) => status.to_string(),
            Err(_) => format!("no answer in {PATIENCE:?}"),
        };
        let wrong = format!("range, serializable={serializable}: {wrong}");
        self.seen.wrong.push(wrong);
    }
}

/// Posts values, each once, into a queue of its own.
async fn post(url: String, id: String, shared: Arc<Shared>) -> Result<Seen> {
    let mut client = Client::once(&url, PATIENCE);
    let directory = format!("/v2/keys/queues/{id}");
    let (mut seen, mut queue) = (Seen::default(), Queue::default());
    let mut number = 0_u64;
    while !shared.stopped() {
        number += 1;
        let value = number.to_string();
        let form = format!("value={value}");
        let request = Request::new("POST", &directory).form(form);
        match client.ask(&request).await {
            Ok(reply) if reply.status == 201 => {
                seen.told(&shared);
                queue.acked.push(value);
            }
            Ok(reply) if is_uncertain(&reply) => {
                seen.uncertain += 1;
                queue.uncertain.insert(value);
            }
            other => seen.wrong.push(format!("{request}: {}", show(&other))),
        }
        tokio::time::sleep(PAUSE).await;
    }
    seen.queues.insert(directory, queue);
    Ok(seen)
}
