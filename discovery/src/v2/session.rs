//! The protocol's requests, each tried until the service answers.

use std::time::Duration;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::timeout;
use tracing::{info, warn};
use url::Url;

use super::Options;
use super::address::{DiscoveryUrl, parse_proxy};
use super::keys::{self, Answer, BadAnswer, KeysError, Node};
use super::roster::{Entry, Roster};
use crate::DiscoveryError;
use crate::backoff::Backoff;
use crate::error::Remedies;
use crate::http::{Ask, Http, HttpError};
use crate::registration::Registration;

/// Thousands of members' worth.
const ANSWER_MAX: usize = 1 << 20;

/// As etcd's client asks: every answer is the backend's own, no quorum.
const PLAIN: &str = "quorum=false&recursive=false&sorted=false";

const RENEW: &str = "make a new one (keelson discovery new --size N)";

/// What a wait came to.
#[derive(Debug)]
pub(super) enum Waited {
    /// Something happened to this node.
    Event(String, Node),
    /// Nothing, for as long as we wait at most.
    Quiet,
    /// It cannot be told what happened: look again.
    Lost,
}

/// What a registration came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Registered {
    /// The entry was made at this index.
    At(u64),
    /// There is an entry with our id.
    Exists,
}

/// One exchange.
enum Exchange {
    Node(String, Node, u64),
    Failed(KeysError),
    /// Worth another try.
    Passing(String),
}

pub(super) struct Session<'o> {
    http: Http,
    pub(super) url: DiscoveryUrl,
    options: &'o Options,
    backoff: Backoff,
}

impl<'o> Session<'o> {
    pub(super) fn new(url: &str, options: &'o Options) -> Result<Session<'o>, DiscoveryError> {
        let proxy = options.proxy.as_deref().filter(|text| !text.is_empty());
        Ok(Session {
            http: Http {
                proxy: proxy.map(parse_proxy).transpose()?,
                connect_timeout: options.connect_timeout,
            },
            url: DiscoveryUrl::parse(url)?,
            options,
            backoff: Backoff::new(options.patience),
        })
    }

    /// The size, and who has registered; and the store's index at that time.
    pub(super) async fn roster(&mut self) -> Result<(Roster, u64), DiscoveryError> {
        let (size, _) = self.get("_config/size").await?;
        let text = size.value.trim();
        let size = text.parse().map_err(|reason| DiscoveryError::BadSizeKey {
            url: self.url.as_str().to_owned(),
            value: text.to_owned(),
            reason,
            renew: RENEW.to_owned(),
        })?;
        let (directory, index) = self.get("").await?;
        Ok((Roster::of(size, &directory), index))
    }

    fn not_found(&self) -> DiscoveryError {
        DiscoveryError::SizeNotFound {
            url: self.url.as_str().to_owned(),
            renew: RENEW.to_owned(),
        }
    }

    /// For messages about this token.
    pub(super) fn remedies(&self) -> Remedies {
        Remedies {
            remove: format!("curl -X DELETE {}", self.url),
            renew: RENEW.to_owned(),
        }
    }

    async fn get(&mut self, below: &str) -> Result<(Node, u64), DiscoveryError> {
        let url = self.url.at(below, PLAIN);
        let ask = Ask::default();
        match self.until_answered(&url, &ask).await? {
            Ok((_, node, index)) => Ok((node, index)),
            Err(error) if error.error_code == keys::KEY_NOT_FOUND => Err(self.not_found()),
            Err(error) => Err(refused(&url, error)),
        }
    }

    /// Makes our entry. Safe to repeat: it is made once, and found to be ours the next time.
    pub(super) async fn register(
        &mut self,
        me: &Registration,
    ) -> Result<Registered, DiscoveryError> {
        let url = self.url.at(&me.hex_id(), "prevExist=false");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let value: String = url::form_urlencoded::byte_serialize(me.value().as_bytes()).collect();
        let ask = Ask {
            method: Method::PUT,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, form)]),
            body: format!("value={value}").into(),
        };
        match self.until_answered(&url, &ask).await? {
            Ok((_, node, _)) => Ok(Registered::At(node.created_index)),
            Err(error) if error.error_code == keys::NODE_EXISTS => Ok(Registered::Exists),
            Err(error) if error.error_code == keys::KEY_NOT_FOUND => Err(self.not_found()),
            Err(error) => Err(refused(&url, error)),
        }
    }

    /// Takes our entry away, if it is still as we know it. One try: a place that nobody looks at is
    /// no harm.
    pub(super) async fn withdraw(&mut self, entry: &Entry) {
        let query = format!("prevIndex={}", entry.modified);
        let url = self.url.at(&entry.id, &query);
        let ask = Ask {
            method: Method::DELETE,
            ..Ask::default()
        };
        match self
            .exchange(&url, &ask, self.options.request_timeout)
            .await
        {
            Ok(Exchange::Node(..)) => info!(id = entry.id, "took the surplus entry away"),
            Ok(Exchange::Failed(error)) => info!(%error, "left the surplus entry"),
            Ok(Exchange::Passing(error)) => info!(error, "left the surplus entry"),
            Err(error) => info!(%error, "left the surplus entry"),
        }
    }

    /// Waits for our own entry to appear on whichever backend we speak with.
    pub(super) async fn wait_for_own(
        &mut self,
        me: &Registration,
        created: u64,
    ) -> Result<(), DiscoveryError> {
        let query = format!("recursive=false&wait=true&waitIndex={created}");
        let url = self.url.at(&me.hex_id(), &query);
        // Whatever it comes to, the next look shows whether we are there.
        self.wait(&url, self.options.request_timeout)
            .await
            .map(drop)
    }

    /// Waits for the next event after `index`.
    pub(super) async fn wait_for_others(&mut self, index: u64) -> Result<Waited, DiscoveryError> {
        let next = index.saturating_add(1);
        let query = format!("recursive=true&wait=true&waitIndex={next}");
        let url = self.url.at("", &query);
        self.wait(&url, self.options.wait_max).await
    }

    async fn wait(&mut self, url: &Url, longest: Duration) -> Result<Waited, DiscoveryError> {
        let ask = Ask::default();
        // Ours must strike first: time that runs out here is no failure. A connection that does not
        // come about has its own, shorter time.
        let waiting = self.exchange(url, &ask, longest.saturating_mul(2));
        let passing = match timeout(longest, waiting).await {
            Err(_) => return Ok(Waited::Quiet),
            Ok(exchanged) => match exchanged? {
                Exchange::Node(action, node, _) => {
                    self.backoff.reset();
                    return Ok(Waited::Event(action, node));
                }
                Exchange::Failed(error) => return lost(url, error),
                Exchange::Passing(error) => error,
            },
        };
        self.pause(url, passing).await?;
        Ok(Waited::Lost)
    }

    /// Asks until there is an answer that is not the service's own trouble.
    async fn until_answered(
        &mut self,
        url: &Url,
        ask: &Ask,
    ) -> Result<Result<(String, Node, u64), KeysError>, DiscoveryError> {
        loop {
            let timeout = self.options.request_timeout;
            let error = match self.exchange(url, ask, timeout).await? {
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
            self.pause(url, error).await?;
        }
    }

    async fn exchange(
        &self,
        url: &Url,
        ask: &Ask,
        timeout: Duration,
    ) -> Result<Exchange, DiscoveryError> {
        let fetched = match self.http.fetch(url, ask, timeout, ANSWER_MAX).await {
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
                // Without the header (an odd proxy) what the node says is the best there is.
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
    pub(super) async fn pause(&mut self, url: &Url, error: String) -> Result<(), DiscoveryError> {
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

fn lost(url: &Url, error: KeysError) -> Result<Waited, DiscoveryError> {
    match error.error_code {
        keys::EVENT_INDEX_CLEARED | keys::WATCHER_CLEARED | keys::KEY_NOT_FOUND => Ok(Waited::Lost),
        _ => Err(refused(url, error)),
    }
}

fn refused(url: &Url, error: KeysError) -> DiscoveryError {
    let url = url.as_str().to_owned();
    DiscoveryError::Refused { url, error }
}

fn bad_endpoint(url: &Url, answer: String) -> DiscoveryError {
    let url = url.as_str().to_owned();
    DiscoveryError::BadDiscoveryEndpoint { url, answer }
}
