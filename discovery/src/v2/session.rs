//! The protocol's requests, each retried until the service answers.

use std::time::Duration;

use keelson_port::ClientTls;
use tokio::time::timeout;
use tracing::warn;
use url::Url;

use super::Options;
use super::address::{DiscoveryUrl, parse_proxy};
use super::keys::{self, Answer, BadAnswer, KeysError, Node};
use crate::DiscoveryError;
use crate::backoff::Backoff;
use crate::http::{Http, HttpError, RequestParts};

/// Bound on an answer in bytes, enough for thousands of members.
const ANSWER_MAX: usize = 1 << 20;

/// The options of etcd's client: the backend answers from its own state, without a quorum.
const PLAIN: &str = "quorum=false&recursive=false&sorted=false";

pub(super) const RENEW: &str = "make a new one (keelson discovery new --size N)";

/// The result of a watch.
pub(super) enum Event {
    Node(String, Node),
    /// Nothing happened within the longest wait.
    Quiet,
    /// The history is gone, or the service failed meanwhile.
    Lost,
}

/// The result of one exchange.
pub(super) enum Exchange {
    Node(String, Node, u64),
    Failed(KeysError),
    /// Worth a retry.
    Passing(String),
}

pub(super) struct Session {
    http: Http,
    pub(super) url: DiscoveryUrl,
    pub(super) options: Options,
    backoff: Backoff,
}

impl Session {
    pub(super) fn new(url: &str, options: &Options) -> Result<Session, DiscoveryError> {
        let proxy = options.proxy.as_deref().filter(|text| !text.is_empty());
        let tls = ClientTls::new(options.tls.clone());
        let tls = tls.map_err(|error| DiscoveryError::Option(error.to_string()))?;
        Ok(Session {
            http: Http {
                proxy: proxy.map(parse_proxy).transpose()?,
                connect_timeout: options.connect_timeout,
                tls,
            },
            url: DiscoveryUrl::parse(url)?,
            options: options.clone(),
            backoff: Backoff::new(options.retry),
        })
    }

    pub(super) fn not_found(&self) -> DiscoveryError {
        DiscoveryError::SizeNotFound {
            url: self.url.as_str().to_owned(),
            renew: RENEW.to_owned(),
        }
    }

    /// A node below the token, and the store's index.
    pub(super) async fn get(&mut self, below: &str) -> Result<(Node, u64), DiscoveryError> {
        let url = self.url.at(below, PLAIN);
        let parts = RequestParts::default();
        match self.until_answered(&url, &parts).await? {
            Ok((_, node, index)) => Ok((node, index)),
            Err(error) if error.error_code == keys::KEY_NOT_FOUND => Err(self.not_found()),
            Err(error) => Err(refused(&url, error)),
        }
    }

    /// Waits for an event.
    pub(super) async fn watch(
        &mut self,
        url: &Url,
        longest: Duration,
    ) -> Result<Event, DiscoveryError> {
        let parts = RequestParts::default();
        // This timeout must be the first to expire, since its end is not a failure. A connection
        // that is not established has its own, shorter timeout.
        let waiting = self.exchange(url, &parts, longest.saturating_mul(2));
        let passing = match timeout(longest, waiting).await {
            Err(_) => return Ok(Event::Quiet),
            Ok(exchanged) => match exchanged? {
                Exchange::Node(action, node, _) => {
                    self.backoff.reset();
                    return Ok(Event::Node(action, node));
                }
                Exchange::Failed(error) => return lost(url, error),
                Exchange::Passing(error) => error,
            },
        };
        self.failed(url, passing).await?;
        Ok(Event::Lost)
    }

    /// Retries until there is an answer that is not the service's own fault.
    pub(super) async fn until_answered(
        &mut self,
        url: &Url,
        parts: &RequestParts,
    ) -> Result<Result<(String, Node, u64), KeysError>, DiscoveryError> {
        loop {
            let timeout = self.options.request_timeout;
            let error = match self.exchange(url, parts, timeout).await? {
                Exchange::Node(action, node, index) => {
                    self.backoff.reset();
                    return Ok(Ok((action, node, index)));
                }
                Exchange::Failed(error) => {
                    self.backoff.reset();
                    return Ok(Err(error));
                }
                Exchange::Passing(error) => error,
            };
            self.failed(url, error).await?;
        }
    }

    pub(super) async fn exchange(
        &self,
        url: &Url,
        parts: &RequestParts,
        timeout: Duration,
    ) -> Result<Exchange, DiscoveryError> {
        let fetched = match self.http.fetch(url, parts, timeout, ANSWER_MAX).await {
            Ok(fetched) => fetched,
            Err(error) if error.is_passing() => return Ok(Exchange::Passing(error.to_string())),
            Err(HttpError::TooLarge { .. }) => {
                let answer = format!("more than {ANSWER_MAX} bytes");
                return Err(bad_endpoint(url, answer));
            }
            Err(error) => return Err(error.into()),
        };
        let index = fetched.headers.get("x-etcd-index");
        let index = index.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        match Answer::parse(fetched.status.as_u16(), &fetched.body) {
            Ok(Answer::Done(node, change)) => {
                // Without the header (an unusual proxy) the node's index is the best estimate.
                let index = index.unwrap_or(node.modified_index);
                Ok(Exchange::Node(change.action, node, index))
            }
            Ok(Answer::Failed(error)) => Ok(Exchange::Failed(error)),
            Ok(Answer::Later(error)) => Ok(Exchange::Passing(error)),
            Ok(Answer::Nothing) => Ok(Exchange::Passing("an empty answer".to_owned())),
            Err(BadAnswer(answer)) => Err(bad_endpoint(url, answer)),
        }
    }

    /// Waits after a failure, longer each time.
    pub(super) async fn failed(&mut self, url: &Url, error: String) -> Result<(), DiscoveryError> {
        let wait = self
            .backoff
            .next()
            .map_err(|attempts| DiscoveryError::TooManyRetries {
                url: self.url.as_str().to_owned(),
                attempts,
                last: error.clone(),
            })?;
        warn!(%url, error, backoff = ?wait, "retry connecting to discovery service");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn lost(url: &Url, error: KeysError) -> Result<Event, DiscoveryError> {
    match error.error_code {
        keys::EVENT_INDEX_CLEARED | keys::WATCHER_CLEARED | keys::KEY_NOT_FOUND => Ok(Event::Lost),
        _ => Err(refused(url, error)),
    }
}

pub(super) fn refused(url: &Url, error: KeysError) -> DiscoveryError {
    let url = url.as_str().to_owned();
    let error = error.to_string();
    DiscoveryError::Refused { url, error }
}

fn bad_endpoint(url: &Url, answer: String) -> DiscoveryError {
    let url = url.as_str().to_owned();
    DiscoveryError::BadDiscoveryEndpoint { url, answer }
}
