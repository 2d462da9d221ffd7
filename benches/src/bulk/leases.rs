//! Leases that expire at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::{LeaseGrantRequest, LeaseLeasesRequest, RangeRequest};
use keelson_tests::proc::client;

use super::calls::{call, put_all};
use super::plan::Plan;
use crate::cluster::wire;

/// Grants in flight.
const IN_FLIGHT: usize = 256;

/// How long the expiry may take beyond the time to live. etcd revokes 1,000 leases a second.
const PATIENCE: Duration = Duration::from_secs(300);

/// Grants the leases, and gives each a key. Returns how long the grants took.
///
/// # Errors
/// The server refuses.
pub async fn grant_all(plan: &Plan, url: &str) -> Result<Duration> {
    let begin = Instant::now();
    let wire = wire::open(url).await?;
    let ids = 1..=plan.leases as i64;
    let grants = stream::iter(ids.clone()).map(|id| {
        let (wire, ttl) = (wire.clone(), plan.ttl);
        async move {
            call(
                wire,
                url,
                "Lease/LeaseGrant",
                &LeaseGrantRequest { ttl, id },
            )
            .await
        }
    });
    let grants = grants.buffer_unordered(IN_FLIGHT);
    grants.try_for_each(|_| async { Ok(()) }).await?;
    let took = begin.elapsed();
    let keys = ids.map(|id| (Bytes::from(format!("/leased/{id:09}")), id));
    put_all(url, keys, plan.value_bytes).await?;
    Ok(took)
}

/// The number of leased keys that are left.
///
/// # Errors
/// The server refuses, or the leases do not expire.
pub async fn left(plan: &Plan, url: &str, since: Instant) -> Result<usize> {
    let due = Duration::from_secs(plan.ttl.unsigned_abs()) + PATIENCE;
    ensure!(since.elapsed() < due, "the leases do not expire");
    let request = RangeRequest {
        key: Bytes::from_static(b"/leased/"),
        range_end: Bytes::from_static(b"/leased0"),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = client::kv(url).await?.range(request).await?.into_inner();
    Ok(usize::try_from(answer.count)?)
}

/// The number of leases that have not expired.
///
/// # Errors
/// The server refuses.
pub async fn live(url: &str) -> Result<usize> {
    let mut leases = LeaseClient::new(client::lazy(url));
    let listed = leases.lease_leases(LeaseLeasesRequest {}).await?;
    Ok(listed.into_inner().leases.len())
}
