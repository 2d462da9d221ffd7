//! Clients that write, update, delete and compare, and the order of all that they wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use keelson_model::kv::{Kv, Request};
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest, request_op,
};
use keelson_proto::mvccpb::Event;
use keelson_proto::mvccpb::event::EventType;
use tokio::task::JoinSet;

use super::watchers::WatchRecords;
use crate::check::watch::EventLog;
use crate::proc::client::{CallOutcome, Client};

/// The timeout of one attempt.
const ATTEMPT: Duration = Duration::from_millis(500);
/// The keys of each writer.
const KEYS: u64 = 4;

/// What the writers have done.
#[derive(Debug, Default)]
pub struct Written {
    /// Acknowledged requests by their revisions.
    acked: BTreeMap<i64, Request>,
    /// Requests of unknown outcome.
    unknown: Vec<Request>,
    /// The last compaction that may have taken effect.
    compacted: i64,
    /// Granted leases and their times to live in seconds.
    leases: Vec<(i64, i64)>,
    problems: Vec<String>,
}

/// Running writers.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    tasks: JoinSet<Written>,
}

impl Writers {
    /// Starts writers; each has keys of its own below `prefix`.
    pub fn start(endpoints: &[String], count: u64, prefix: &str) -> Writers {
        let mut writers = Writers {
            stop: Arc::default(),
            acked: Arc::default(),
            tasks: JoinSet::new(),
        };
        for number in 0..count {
            let writer = Writer {
                client: Client::new(endpoints, number as usize, ATTEMPT),
                prefix: format!("{prefix}{number}/"),
                step: 0,
                written: Written::default(),
            };
            let (stop, acked) = (Arc::clone(&writers.stop), Arc::clone(&writers.acked));
            writers.tasks.spawn(writer.run(stop, acked));
        }
        writers
    }

    /// Waits until `count` more writes are acknowledged.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub async fn progress(&self, count: u64, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        let target = self.acked.load(Ordering::Relaxed) + count;
        while self.acked.load(Ordering::Relaxed) < target {
            ensure!(
                begin.elapsed() < limit,
                "fewer than {count} writes in {limit:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends the writers, and returns what they have written.
    ///
    /// # Errors
    /// A request was refused, or two have the same revision.
    pub async fn stop(mut self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        while let Some(written) = self.tasks.join_next().await {
            all.add(written?)?;
        }
        Ok(all)
    }
}

struct Writer {
    client: Client,
    prefix: String,
    step: u64,
    written: Written,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>, acked: Arc<AtomicU64>) -> Written {
        while !stop.load(Ordering::Relaxed) && self.written.problems.is_empty() {
            let before = self.written.acked.len();
            self.step += 1;
            match self.step % 8 {
                0 => self.delete().await,
                3 => self.put_two().await,
                4 | 6 => self.update().await,
                _ => self.put().await,
            }
            let more = self.written.acked.len() - before;
            acked.fetch_add(more as u64, Ordering::Relaxed);
        }
        self.written
    }

    fn key(&self, number: u64) -> Bytes {
        format!("{}{}", self.prefix, number % KEYS).into()
    }

    /// A value that no other request writes.
    fn value(&self) -> Bytes {
        format!("{}{}", self.prefix, self.step).into()
    }

    fn put_of(&self, number: u64, value: Bytes) -> PutRequest {
        PutRequest {
            key: self.key(number),
            value,
            ..PutRequest::default()
        }
    }

    async fn put(&mut self) {
        let request = self.put_of(self.step, self.value());
        let put = request.clone();
        let call = move |mut kv: KvOf| {
            let put = put.clone();
            async move { kv.put(put).await }
        };
        let outcome = self.client.once(call).await;
        self.note(Request::Put(request), outcome, |response| {
            (true, response.header)
        });
    }

    async fn delete(&mut self) {
        let request = DeleteRangeRequest {
            key: self.key(0),
            range_end: self.key(2),
            prev_kv: false,
        };
        let delete = request.clone();
        let call = move |mut kv: KvOf| {
            let delete = delete.clone();
            async move { kv.delete_range(delete).await }
        };
        let outcome = self.client.once(call).await;
        let request = Request::DeleteRange(request);
        self.note(request, outcome, |response| {
            (response.deleted != 0, response.header)
        });
    }

    /// Two keys in one revision.
    async fn put_two(&mut self) {
        let (first, second) = (self.value(), [&self.value()[..], b"b"].concat());
        let puts = [self.put_of(1, first), self.put_of(2, second.into())];
        let txn = TxnRequest {
            success: puts.map(put_op).to_vec(),
            ..TxnRequest::default()
        };
        self.txn(txn).await;
    }

    /// An update as Kubernetes makes it: read, then write if the key has not changed since.
    async fn update(&mut self) {
        let key = self.key(self.step);
        let range = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let read = range.clone();
        let call = move |mut kv: KvOf| {
            let read = read.clone();
            async move { kv.range(read).await }
        };
        let CallOutcome::Done(found) = self.client.once(call).await else {
            return;
        };
        let revision = found.kvs.first().map_or(0, |kv| kv.mod_revision);
        let txn = TxnRequest {
            compare: vec![Compare {
                key,
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                target_union: Some(TargetUnion::ModRevision(revision)),
                ..Compare::default()
            }],
            success: vec![put_op(self.put_of(self.step, self.value()))],
            failure: vec![RequestOp {
                request: Some(request_op::Request::RequestRange(range)),
            }],
        };
        self.txn(txn).await;
    }

    async fn txn(&mut self, request: TxnRequest) {
        let txn = request.clone();
        let call = move |mut kv: KvOf| {
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        };
        let outcome = self.client.once(call).await;
        let request = Request::Txn(request);
        self.note(request, outcome, |response| {
            (response.succeeded, response.header)
        });
    }

    fn note<T>(
        &mut self,
        request: Request,
        outcome: CallOutcome<T>,
        effect: impl Fn(&T) -> (bool, Option<ResponseHeader>),
    ) {
        match outcome {
            CallOutcome::Done(response) => {
                let (changed, header) = effect(&response);
                let revision = header.map_or(0, |header| header.revision);
                if changed && let Some(other) = self.written.acked.insert(revision, request) {
                    let problem = format!("two writes at {revision}: {other:?}");
                    self.written.problems.push(problem);
                }
            }
            CallOutcome::Unknown(_) => self.written.unknown.push(request),
            CallOutcome::Refused(status) => self.written.problems.push(status.to_string()),
        }
    }
}

type KvOf = keelson_proto::etcdserverpb::kv_client::KvClient<tonic::transport::Channel>;

fn put_op(put: PutRequest) -> RequestOp {
    RequestOp {
        request: Some(request_op::Request::RequestPut(put)),
    }
}

impl Written {
    fn add(&mut self, other: Written) -> Result<()> {
        ensure!(other.problems.is_empty(), "{:?}", other.problems);
        for (revision, request) in other.acked {
            let before = self.acked.insert(revision, request);
            ensure!(before.is_none(), "two writes at {revision}: {before:?}");
        }
        self.unknown.extend(other.unknown);
        Ok(())
    }

    /// The last revision that was acknowledged.
    pub fn revision(&self) -> i64 {
        self.acked.keys().next_back().copied().unwrap_or(1)
    }

    /// Another client's write was acknowledged.
    pub fn acknowledged(&mut self, revision: i64, request: Request) {
        self.acked.insert(revision, request);
    }

    /// A lease was granted, before any key was put with it.
    pub fn granted(&mut self, id: i64, ttl_s: i64) {
        self.leases.push((id, ttl_s));
    }

    /// A compaction was requested.
    pub fn compacted(&mut self, request: &CompactionRequest) {
        self.compacted = self.compacted.max(request.revision);
    }

    /// The events of all revisions. A revision that was not acknowledged must be that of a request
    /// of unknown outcome: the watchers' events show which.
    ///
    /// # Errors
    /// A revision is that of no request, or an acknowledged request does not make its revision.
    pub fn events(mut self, records: &WatchRecords, upto: i64) -> Result<EventLog> {
        let mut seen: BTreeMap<i64, &Event> = BTreeMap::new();
        for event in records.responses().flat_map(|response| &response.events) {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            seen.insert(revision, event);
        }
        let (mut model, mut log) = (Kv::default(), EventLog::default());
        for (id, ttl_s) in &self.leases {
            let granted = model.grant(*id, 0, *ttl_s);
            ensure!(granted.is_ok(), "lease {id}: {granted:?}");
        }
        for revision in 2..=upto {
            let request = match self.acked.remove(&revision) {
                Some(request) => request,
                None => self.settle(seen.get(&revision).copied(), revision)?,
            };
            let applied = model.apply(&request);
            let good = applied.is_ok() && model.revision() == revision;
            ensure!(
                good,
                "{request:?} does not make revision {revision}: {applied:?}"
            );
            log.push(&model);
        }
        log.compact(self.compacted);
        Ok(log)
    }

    /// The request of unknown outcome that made an event.
    fn settle(&mut self, event: Option<&Event>, revision: i64) -> Result<Request> {
        let event = event.with_context(|| format!("revision {revision} was not watched"))?;
        let kv = event.kv.as_ref().context("a pair")?;
        let deletes = event.r#type == i32::from(EventType::Delete);
        let puts = |put: &PutRequest| !deletes && (&put.key, &put.value) == (&kv.key, &kv.value);
        let made = |request: &Request| match request {
            Request::Put(put) => puts(put),
            Request::Txn(txn) => txn.success.iter().any(|op| match &op.request {
                Some(request_op::Request::RequestPut(put)) => puts(put),
                _ => false,
            }),
            Request::DeleteRange(delete) => {
                deletes && delete.key <= kv.key && kv.key < delete.range_end
            }
            Request::Range(_) | Request::Compact(_) => false,
        };
        match self.unknown.iter().position(made) {
            Some(found) => Ok(self.unknown.swap_remove(found)),
            None => bail!("revision {revision} is of no request: {event:?}"),
        }
    }
}
