//! Clients: one connection to one member, and one that fails over to another member as clientv3
//! does.

use std::error::Error as _;
use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Result;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::{StatusRequest, StatusResponse};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Time limit for a connection. On loopback it is established at once or never.
const CONNECT: Duration = Duration::from_millis(500);

/// The pause between attempts, as in clientv3's retry.
const BACKOFF: Duration = Duration::from_millis(25);

/// Answers of a whole range may be far above tonic's 4 MiB.
pub const ANSWER_LIMIT: usize = 256 << 20;

/// A channel that connects when it is first used and again after each failure.
///
/// # Panics
/// `url` is not a URL.
pub fn lazy(url: &str) -> Channel {
    endpoint(url).connect_lazy()
}

/// A connected KV client.
///
/// # Errors
/// The member does not accept.
pub async fn kv(url: &str) -> Result<KvClient<Channel>> {
    let channel = endpoint(url).connect().await?;
    Ok(KvClient::new(channel).max_decoding_message_size(ANSWER_LIMIT))
}

/// A connected maintenance client.
///
/// # Errors
/// The member does not accept.
pub async fn maintenance(url: &str) -> Result<MaintenanceClient<Channel>> {
    Ok(MaintenanceClient::new(endpoint(url).connect().await?))
}

/// The member's status.
///
/// # Errors
/// The member does not answer.
pub async fn status(url: &str) -> Result<StatusResponse> {
    let mut maintenance = maintenance(url).await?;
    let answer = maintenance.status(StatusRequest::default());
    Ok(tokio::time::timeout(Duration::from_secs(2), answer)
        .await??
        .into_inner())
}

fn endpoint(url: &str) -> Endpoint {
    let endpoint = Endpoint::from_shared(url.to_string()).expect("members' URLs are well-formed");
    endpoint.connect_timeout(CONNECT).tcp_nodelay(true)
}

/// The outcome of a request.
#[derive(Clone, Debug)]
pub enum CallOutcome<T> {
    /// The server answered.
    Done(T),
    /// Unknown: no answer, or an answer that leaves the outcome open.
    Unknown(String),
    /// It had no effect, and a retry does not help.
    Refused(Status),
}

/// A client of the whole cluster. It uses one member until that one fails, then the next.
#[derive(Debug)]
pub struct Client {
    channels: Vec<Channel>,
    current: usize,
    attempt: Duration,
}

impl Client {
    /// A client that starts at member `first`, with the timeout `attempt` for each attempt.
    pub fn new(endpoints: &[String], first: usize, attempt: Duration) -> Client {
        assert!(!endpoints.is_empty());
        Client {
            channels: endpoints.iter().map(|url| lazy(url)).collect(),
            current: first % endpoints.len(),
            attempt,
        }
    }

    /// Makes one request, which is sent at most once: it is retried only while it has certainly not
    /// left this process.
    pub async fn once<T, F>(
        &mut self,
        mut call: impl FnMut(KvClient<Channel>) -> F,
    ) -> CallOutcome<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut unsent = 0;
        loop {
            let channel = self.channels[self.current].clone();
            let answer = tokio::time::timeout(self.attempt, call(KvClient::new(channel))).await;
            let status = match answer {
                Ok(Ok(response)) => return CallOutcome::Done(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if !unknown(&status) {
                return CallOutcome::Refused(status);
            }
            self.current = (self.current + 1) % self.channels.len();
            if !never_sent(&status) {
                tokio::time::sleep(BACKOFF).await;
                return CallOutcome::Unknown(explain(&status));
            }
            unsent += 1;
            if unsent % self.channels.len() == 0 {
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

/// Whether the answer leaves the request's outcome open.
fn unknown(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
    )
}

/// The status and all its causes, in one line.
fn explain(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = status.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Whether the request has certainly not reached a server: the connection was refused, or the
/// server was closing it and reports that it did not process the request.
fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == ErrorKind::ConnectionRefused
        {
            return true;
        }
        if let Some(hyper) = error.downcast_ref::<hyper::Error>()
            && (hyper.is_canceled() || hyper.is_closed())
        {
            return true;
        }
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            let reason = h2.reason();
            // A stream above the last one that a graceful GOAWAY promises to finish.
            let above = h2.is_go_away() && h2.is_remote() && reason == Some(h2::Reason::NO_ERROR);
            if above || reason == Some(h2::Reason::REFUSED_STREAM) {
                return true;
            }
        }
        cause = error.source();
    }
    false
}
