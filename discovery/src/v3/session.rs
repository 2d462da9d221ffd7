//! Requests to the first endpoint that answers.

use std::future::Future;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use keelson_port::{ClientTls, Protocol};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tracing::warn;

use super::Options;
use crate::backoff::Backoff;
use crate::{DiscoveryError, HttpError};

/// Where etcd keeps tokens.
const ROOT: &str = "/_etcd/registry";

/// Bound on a message, beyond the entries of any token.
const MESSAGE_MAX: usize = 1 << 20;

/// grpc-go's minimum in any configuration; etcd closes connections that ping more often.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);

pub(super) struct Session {
    pub(super) options: Options,
    /// `/_etcd/registry/<token>`
    pub(super) prefix: String,
    endpoints: Vec<Endpoint>,
    tls: ClientTls,
    /// The index of the current endpoint; the next one after each failure.
    turn: usize,
    channel: Option<Channel>,
    backoff: Backoff,
}

impl Session {
    pub(super) fn new(options: &Options) -> Result<Session, DiscoveryError> {
        let missing = |what: &str| Err(DiscoveryError::Option(what.to_owned()));
        if options.user.as_deref().is_some_and(|user| !user.is_empty()) {
            return missing(
                "--discovery-user and --discovery-password are not supported yet; use a discovery \
                 cluster without authentication",
            );
        }
        let parts = options.token.split('/').filter(|part| !part.is_empty());
        let token: Vec<&str> = parts.collect();
        if token.is_empty() || token.iter().any(|part| matches!(*part, "." | "..")) {
            return missing("v3 discovery needs a --discovery-token, any word of your choice");
        }
        if options.endpoints.is_empty() {
            return missing("v3 discovery needs --discovery-endpoints, such as http://host:2379");
        }
        let endpoints = options.endpoints.iter().map(|text| endpoint(text, options));
        let tls = ClientTls::new(options.tls.clone());
        let tls = tls.map_err(|error| DiscoveryError::Option(error.to_string()))?;
        Ok(Session {
            options: options.clone(),
            prefix: format!("{ROOT}/{}", token.join("/")),
            endpoints: endpoints.collect::<Result<_, _>>()?,
            tls,
            turn: 0,
            channel: None,
            backoff: Backoff::new(options.retry),
        })
    }

    pub(super) async fn range(
        &mut self,
        request: RangeRequest,
    ) -> Result<RangeResponse, DiscoveryError> {
        self.until_answered(move |channel| {
            let request = request.clone();
            async move { Ok(client(channel).range(request).await?.into_inner()) }
        })
        .await
    }

    pub(super) async fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, DiscoveryError> {
        self.until_answered(move |channel| {
            let request = request.clone();
            async move { Ok(client(channel).txn(request).await?.into_inner()) }
        })
        .await
    }

    /// Tries one endpoint after the other until one answers.
    async fn until_answered<T, A>(
        &mut self,
        exchange: impl Fn(Channel) -> A + Send,
    ) -> Result<T, DiscoveryError>
    where
        A: Future<Output = Result<T, Status>> + Send,
    {
        loop {
            let longest = self.options.request_timeout;
            let channel = self.channel();
            match within(longest, exchange(channel)).await {
                Ok(answer) => {
                    self.backoff.reset();
                    return Ok(answer);
                }
                Err(status) => self.failed(&status).await?,
            }
        }
    }

    /// A channel to the current endpoint. It connects when it is used.
    pub(super) fn channel(&mut self) -> Channel {
        let endpoint = &self.endpoints[self.turn % self.endpoints.len()];
        let connect = || {
            let tls = self.tls.clone();
            let connector = tower::service_fn(move |uri: Uri| {
                let tls = tls.clone();
                async move { tls.dial(&uri, Protocol::Http2).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector_lazy(connector)
        };
        self.channel.get_or_insert_with(connect).clone()
    }

    /// Moves on to the next endpoint, and waits if that is likely to help.
    pub(super) async fn failed(&mut self, status: &Status) -> Result<(), DiscoveryError> {
        let endpoint = self.endpoints[self.turn % self.endpoints.len()]
            .uri()
            .to_string();
        let message = format!("{:?}: {}", status.code(), status.message());
        if is_final(status.code()) {
            return Err(DiscoveryError::RefusedV3 { endpoint, message });
        }
        self.turn += 1;
        self.channel = None;
        self.pause_after(&endpoint, message).await
    }

    pub(super) async fn pause_after(
        &mut self,
        endpoint: &str,
        error: String,
    ) -> Result<(), DiscoveryError> {
        let wait = self
            .backoff
            .next()
            .map_err(|attempts| DiscoveryError::TooManyRetries {
                url: self.options.endpoints.join(","),
                attempts,
                last: error.clone(),
            })?;
        warn!(endpoint, error, backoff = ?wait, "retry connecting to discovery service");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A deadline of our own in addition to tonic's, which does not cover a channel that is still
/// connecting.
async fn within<T>(
    longest: Duration,
    asking: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let late = || Status::deadline_exceeded(format!("no answer within {longest:?}"));
    timeout(longest, asking).await.map_err(|_| late())?
}

/// Codes that neither another endpoint nor a retry changes.
fn is_final(code: Code) -> bool {
    use Code::{InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented};
    matches!(
        code,
        InvalidArgument | PermissionDenied | Unauthenticated | Unimplemented
    )
}

fn endpoint(text: &str, options: &Options) -> Result<Endpoint, DiscoveryError> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false if options.is_secure => format!("https://{text}"),
        false => format!("http://{text}"),
    };
    let endpoint = Endpoint::from_shared(whole.clone());
    let endpoint = endpoint.map_err(|_| HttpError::NotHttp(whole))?;
    Ok(endpoint
        .connect_timeout(options.dial_timeout)
        .http2_keep_alive_interval(options.keepalive_time.max(KEEPALIVE_MIN))
        .keep_alive_timeout(options.keepalive_timeout))
}
