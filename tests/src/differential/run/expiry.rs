//! The end of a sequence: a lease that expires, with its keys, and the progress of all watchers.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};
use keelson_proto::mvccpb::event::EventType;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::Run;
use crate::differential::answer::{Answer, Subject};
use crate::differential::generate::Operation;

/// The lease; no generated operation has its id.
const LEASE: i64 = 0x7_0000_0002;

/// Its time to live, in seconds: far longer than two requests take, on a stalled machine too.
const TTL: i64 = 7;

/// Its keys, all but the last below a prefix of which nothing else is generated.
const KEYS: [&[u8]; 4] = [b"expiring/c", b"expiring/a", b"expiring/b", b"a"];

/// The prefix, and its end.
const PREFIX: (&[u8], &[u8]) = (b"expiring/", b"expiring0");

/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The interval at which the leases are listed.
const POLL: Duration = Duration::from_millis(50);

impl Run {
    /// Lets a lease expire on both. Its end is seen by the watchers, in one revision.
    pub(super) async fn expiry(&mut self) -> Result<()> {
        self.step(&Operation::Watch(WatchCreateRequest {
            key: Bytes::from_static(PREFIX.0),
            range_end: Bytes::from_static(PREFIX.1),
            prev_kv: true,
            ..WatchCreateRequest::default()
        }))
        .await?;
        // A time below the shortest is replaced by that, which is below the second one.
        for (id, ttl) in [(LEASE + 1, 1), (LEASE, TTL)] {
            let grant = LeaseGrantRequest { id, ttl };
            self.step(&Operation::Grant(grant)).await?;
        }
        // At once: the lease must not expire between two puts.
        let attached = TxnRequest {
            success: KEYS.map(attached).to_vec(),
            ..TxnRequest::default()
        };
        self.step(&Operation::Txn(attached)).await?;
        until_expired(&self.ours).await.context("ours")?;
        until_expired(&self.theirs).await.context("theirs")?;
        until_gone(&mut self.ours).await.context("ours")?;
        until_gone(&mut self.theirs).await.context("theirs")?;
        let (id, keys) = (LEASE, true);
        let times = LeaseTimeToLiveRequest { id, keys };
        for operation in [Operation::TimeToLive(times), Operation::Leases] {
            self.step(&operation).await?;
        }
        self.settle().await?;
        // Every watcher has begun by now, and has everything: the answer has the last revision.
        self.step(&Operation::Progress).await
    }
}

fn attached(key: &'static [u8]) -> RequestOp {
    let put = PutRequest {
        key: Bytes::from_static(key),
        value: Bytes::from_static(b"v"),
        lease: LEASE,
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Request::RequestPut(put)),
    }
}

/// Waits until the watcher of the prefix has the deletion of each of its keys.
async fn until_expired(subject: &Subject) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let changed = subject.watches.changed();
        let deleted = subject.watches.with_records(|records| {
            let own = records.iter().filter(|one| one.request.key == PREFIX.0);
            let events = own.flat_map(|one| &one.events);
            events
                .filter(|event| event.r#type() == EventType::Delete)
                .count()
        });
        if deleted == KEYS.len() - 1 {
            return Ok(());
        }
        let waited = timeout_at(deadline, changed).await;
        waited.context("the lease has not expired")?;
    }
}

/// Waits until neither lease is listed: no watcher sees the end of one that has no keys.
async fn until_gone(subject: &mut Subject) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let Answer::Leases(listed) = subject.answer(&Operation::Leases).await else {
            bail!("no list of leases");
        };
        let own = [LEASE, LEASE + 1];
        if !listed.leases.iter().any(|lease| own.contains(&lease.id)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "a lease is listed still");
        sleep(POLL).await;
    }
}
