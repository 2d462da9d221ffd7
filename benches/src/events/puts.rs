//! Puts in an open loop: each has its time, whether the ones before are answered or not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use keelson_proto::etcdserverpb::PutRequest;
use tokio::task::JoinSet;

use super::plan::Keys;
use crate::cluster::wire::{self, Kv};
use crate::histogram::Histogram;

/// The time between two puts is at least this: the timer's resolution.
const TICK: Duration = Duration::from_millis(1);

/// The puts of a cell.
#[derive(Clone, Debug)]
pub struct Puts {
    /// The members.
    pub urls: Vec<String>,
    /// Which keys are put.
    pub keys: Keys,
    /// The number of distinct keys.
    pub watchers: usize,
    /// Puts a second.
    pub rate: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// The origin of the times in the values.
    pub origin: Instant,
}

/// The key of a number.
pub fn key(number: usize) -> Bytes {
    Bytes::from(format!("/watched/{number:08}"))
}

impl Puts {
    /// Puts for that long, and waits for all answers.
    ///
    /// # Errors
    /// A put fails.
    pub async fn run(self, window: Duration) -> Result<Histogram> {
        let mut members = Vec::new();
        for url in &self.urls {
            members.push(wire::connect(url).await?);
        }
        let plan = Arc::new(self);
        let (begin, mut sent) = (Instant::now(), 0_u64);
        let mut puts = JoinSet::new();
        let mut latencies = Histogram::default();
        while begin.elapsed() < window {
            let due = (begin.elapsed().as_secs_f64() * plan.rate as f64) as u64;
            while sent < due {
                let at = begin + Duration::from_secs_f64((sent + 1) as f64 / plan.rate as f64);
                let member = members[sent as usize % members.len()].clone();
                puts.spawn(one(Arc::clone(&plan), member, sent, at));
                sent += 1;
            }
            while let Some(done) = puts.try_join_next() {
                latencies.record(done??);
            }
            tokio::time::sleep(TICK).await;
        }
        while let Some(done) = puts.join_next().await {
            latencies.record(done??);
        }
        ensure!(latencies.total() != 0, "no put was made");
        Ok(latencies)
    }
}

async fn one(plan: Arc<Puts>, mut member: Kv, number: u64, due: Instant) -> Result<Duration> {
    let place = match plan.keys {
        Keys::Shared => 0,
        Keys::None | Keys::Distinct => number as usize % plan.watchers.max(1),
    };
    let mut value = BytesMut::with_capacity(plan.value_bytes);
    value.put_u64(plan.origin.elapsed().as_nanos() as u64);
    value.resize(plan.value_bytes.max(8), b'v');
    let put = PutRequest {
        key: key(place),
        value: value.freeze(),
        ..PutRequest::default()
    };
    member.put(put).await?;
    Ok(due.elapsed())
}
