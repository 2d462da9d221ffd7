//! Load on leases: renewals on streams, and leases for puts.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use http::Uri;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::wire::Wire;

/// The time to live of the leases, in seconds: longer than any run.
const TTL: i64 = 3600;

/// Grants a lease, and returns its id.
///
/// # Errors
/// The member refuses.
pub async fn grant(wire: Wire, origin: Uri) -> Result<i64> {
    let request = LeaseGrantRequest { ttl: TTL, id: 0 };
    let granted = LeaseClient::with_origin(wire, origin)
        .lease_grant(request)
        .await?;
    Ok(granted.into_inner().id)
}

/// A lease and the stream on which it is renewed.
#[derive(Debug)]
pub struct Renewals {
    id: i64,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
}

impl Renewals {
    /// Grants a lease and opens the stream.
    ///
    /// # Errors
    /// The member refuses.
    pub async fn open(wire: Wire, origin: Uri) -> Result<Renewals> {
        let id = grant(wire.clone(), origin.clone()).await?;
        let (requests, mut receiver) = mpsc::channel(1);
        let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        // The answer to the call may come only after the first request.
        requests.send(LeaseKeepAliveRequest { id }).await?;
        let mut client = LeaseClient::with_origin(wire, origin);
        let mut responses = client.lease_keep_alive(stream).await?.into_inner();
        responses.message().await?.context("the stream ended")?;
        Ok(Renewals {
            id,
            requests,
            responses,
        })
    }

    /// Renews the lease once, and returns how long that took.
    ///
    /// # Errors
    /// The stream ends, or the lease does not exist.
    pub async fn renew(&mut self) -> Result<std::time::Duration> {
        let begin = Instant::now();
        let id = self.id;
        self.requests.send(LeaseKeepAliveRequest { id }).await?;
        let answer = self
            .responses
            .message()
            .await?
            .context("the stream ended")?;
        ensure!(answer.ttl == TTL, "a lease of {} s", answer.ttl);
        Ok(begin.elapsed())
    }
}
