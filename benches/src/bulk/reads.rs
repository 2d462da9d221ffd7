//! Reads of all keys.

use anyhow::{Result, ensure};
use bytes::Bytes;
use keelson_proto::etcdserverpb::RangeRequest;

use super::calls::call;
use super::plan::{Plan, Work};
use crate::cluster::wire;

/// The end of the range of all keys.
const END: &[u8] = b"/bulk0";

/// The key of a number.
pub fn key(number: usize) -> Bytes {
    Bytes::from(format!("/bulk/{number:09}"))
}

/// Reads all keys until `stops`, and returns how many were read.
///
/// # Errors
/// The server refuses, or an answer is too short for its keys.
pub async fn until(plan: &Plan, work: Work, url: &str, stops: impl Fn() -> bool) -> Result<usize> {
    let wire = wire::open(url).await?;
    let (method, step) = match work {
        Work::Stream => ("KV/RangeStream", plan.keys),
        Work::Pages | Work::Expiry => ("KV/Range", plan.page),
    };
    let (mut read, mut next) = (0, 0);
    while !stops() {
        let request = RangeRequest {
            key: key(next),
            range_end: Bytes::from_static(END),
            limit: if step == plan.keys { 0 } else { step as i64 },
            ..RangeRequest::default()
        };
        let expected = step.min(plan.keys - next);
        let bytes = call(wire.clone(), url, method, &request).await?;
        let least = expected * (plan.value_bytes + key(next).len());
        ensure!(least as u64 <= bytes, "{bytes} bytes of {expected} keys");
        read += expected;
        next = (next + step) % plan.keys;
    }
    Ok(read)
}
