//! Many clients that write unique values, one request each in flight, and record every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use keelson_proto::etcdserverpb::PutRequest;
use tokio::task::JoinSet;

use super::client::{CallOutcome, Client};

/// The refusal of a write by a learner, which is etcd's.
const AT_A_LEARNER: &str = "etcdserver: rpc not supported for learner";

/// The timeout of a client's attempt, as in the measurements of etcd's outage (blocks.md H).
pub const ATTEMPT: Duration = Duration::from_millis(200);

/// An acknowledged write.
#[derive(Clone, Debug)]
pub struct Ack {
    /// The key; no other write has it.
    pub key: String,
    /// The revision in the answer's header.
    pub revision: i64,
    /// When the answer came.
    pub at: Instant,
}

/// The results of the fleet.
#[derive(Clone, Debug, Default)]
pub struct WriteResults {
    /// Acknowledged writes, by the time of their answer.
    pub acked: Vec<Ack>,
    /// Keys of writes of unknown outcome, with the reason.
    pub unknown: Vec<(String, String)>,
    /// Writes that the server refused: there is no reason to, so each is a failure.
    pub refused: Vec<String>,
}

impl WriteResults {
    /// The longest time without an acknowledged write from `since` to the last of them, counted
    /// from the acknowledgement before `since`.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let first = self
            .acked
            .partition_point(|ack| ack.at < since)
            .saturating_sub(1);
        let gaps = self.acked[first..]
            .windows(2)
            .map(|pair| pair[1].at - pair[0].at);
        gaps.max().unwrap_or(Duration::MAX)
    }
}

/// The value written under a key: unique, because the key is.
pub fn value(key: &str) -> String {
    format!("value of {key}")
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    clients: JoinSet<WriteResults>,
}

impl Fleet {
    /// Starts `clients` writers under `prefix`, spread over the endpoints.
    pub fn start(endpoints: &[String], clients: usize, prefix: &str) -> Fleet {
        Fleet::patient(endpoints, clients, prefix, ATTEMPT)
    }

    /// The same with a longer timeout: a failure is then the server's, and not caused by a short
    /// timeout.
    pub fn patient(endpoints: &[String], clients: usize, prefix: &str, attempt: Duration) -> Fleet {
        let mut fleet = Fleet {
            stop: Arc::default(),
            acked: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..clients {
            let client = Client::new(endpoints, number, attempt);
            let (stop, acked) = (Arc::clone(&fleet.stop), Arc::clone(&fleet.acked));
            let prefix = format!("{prefix}{number:03}/");
            fleet.clients.spawn(write(client, prefix, stop, acked));
        }
        fleet
    }

    /// The number of acknowledged writes so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits until `count` more writes are acknowledged.
    ///
    /// # Errors
    /// They are not acknowledged within `limit`.
    pub async fn progress(&self, count: u64, limit: Duration) -> Result<()> {
        let (begin, target) = (Instant::now(), self.acked() + count);
        while self.acked() < target {
            if begin.elapsed() > limit {
                bail!("fewer than {count} writes were acknowledged in {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Lets every client finish its request and returns the results.
    pub async fn stop(mut self) -> WriteResults {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = WriteResults::default();
        while let Some(ledger) = self.clients.join_next().await {
            let ledger = ledger.expect("a client does not panic");
            all.acked.extend(ledger.acked);
            all.unknown.extend(ledger.unknown);
            all.refused.extend(ledger.refused);
        }
        all.acked.sort_by_key(|ack| ack.at);
        all
    }
}

async fn write(
    mut client: Client,
    prefix: String,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
) -> WriteResults {
    let mut ledger = WriteResults::default();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{prefix}{number:08}");
        let request = PutRequest {
            key: key.clone().into(),
            value: value(&key).into(),
            ..Default::default()
        };
        let call = |mut kv: keelson_proto::etcdserverpb::kv_client::KvClient<_>| {
            let request = request.clone();
            async move { kv.put(request).await }
        };
        match client.once(call).await {
            CallOutcome::Done(response) => {
                let at = Instant::now();
                let revision = response.header.map_or(0, |header| header.revision);
                acked.fetch_add(1, Ordering::Relaxed);
                ledger.acked.push(Ack { key, revision, at });
            }
            CallOutcome::Unknown(reason) => ledger.unknown.push((key, reason)),
            // A successor serves its port before it votes. Nothing was written.
            CallOutcome::Refused(status) if status.message() == AT_A_LEARNER => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            CallOutcome::Refused(status) => {
                ledger.refused.push(format!("{key}: {status}"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    ledger
}
