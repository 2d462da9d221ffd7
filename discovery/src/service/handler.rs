//! The handler of a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use tracing::{info, warn};

use super::asked::{asked_size, read_size};
use super::limits::RateLimiter;
use super::metrics::{Kind, Limit, Metrics};
use super::onward::{is_wait, onward, open, passed_on};
use super::registry::{Body, Registry};
use super::route::Route;
use super::tokens::{self, Tokens};
use super::writes::{StorageBudget, WriteOutcome, Writes};
use super::{ServiceOptions, answers};

/// `/health` writes to the registry, so its result is kept for this long.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// The time to live of the token of `/health`, in case its deletion fails.
const HEALTH_TTL: Duration = Duration::from_secs(60);

/// Tokens without an end are bounded by how many are made within this time.
const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Bytes of a token without entries: its directory and its size.
const TOKEN_BYTES: usize = 1024;

/// When the last health check began, and its text if it failed.
type Health = Option<(Instant, Option<&'static str>)>;

pub(super) struct Handler<R> {
    tokens: Tokens<R>,
    options: ServiceOptions,
    metrics: Arc<Metrics>,
    new: RateLimiter,
    tries: RateLimiter,
    writes: Writes<R>,
    total: Arc<StorageBudget>,
    health: tokio::sync::Mutex<Health>,
}

impl<R: Registry> Handler<R> {
    pub(super) fn new(
        registry: Arc<R>,
        options: ServiceOptions,
        metrics: Arc<Metrics>,
    ) -> Handler<R> {
        let tokens = Tokens {
            registry,
            timeout: options.registry_timeout,
        };
        let life = options.token_ttl.unwrap_or(LIFE);
        let total = Arc::new(StorageBudget::new(options.stored_max, life, Instant::now()));
        Handler {
            writes: Writes::new(tokens.clone(), Arc::clone(&total), options.entries_max),
            tokens,
            total,
            new: RateLimiter::new(options.new),
            tries: RateLimiter::new(options.writes),
            health: tokio::sync::Mutex::default(),
            metrics,
            options,
        }
    }

    pub(super) async fn handle(&self, from: IpAddr, request: Request<Incoming>) -> Response<Body> {
        let method = request.method().clone();
        let route = Route::of(&method, request.uri().path());
        let kind = Kind::of(&route);
        let answer = self.answer(from, route, request).await;
        self.metrics.answered(kind, &method, answer.status());
        answer
    }

    async fn answer(
        &self,
        from: IpAddr,
        route: Route,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        // A value may also be in the query.
        let target = parts
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        if self.options.body_max < target {
            self.metrics.refused(Limit::Body);
            return answers::error(StatusCode::URI_TOO_LONG, "request too large");
        }
        let collecting = Limited::new(body, self.options.body_max).collect();
        let body = match timeout(self.options.head_timeout, collecting).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                self.metrics.refused(Limit::Body);
                return answers::error(StatusCode::PAYLOAD_TOO_LARGE, "request too large");
            }
            Err(_) => {
                self.metrics.refused(Limit::Time);
                return answers::error(StatusCode::REQUEST_TIMEOUT, "request too slow");
            }
        };
        match route {
            Route::Home => answers::home(),
            Route::Robots => answers::robots(),
            Route::New => self.new_token(from, &parts, &body).await,
            Route::Health => self.healthy().await,
            Route::Metrics => answers::metrics(self.metrics.text()),
            Route::Token(path) if parts.method == Method::DELETE => {
                self.delete(from, &path, parts, body).await
            }
            Route::Token(path) => self.forward(&path, parts, body).await,
            Route::Write { token, id } => self.write(from, &token, id, parts, body).await,
            Route::NotFound => answers::not_found(),
            Route::MethodNotAllowed => answers::method_not_allowed(),
            Route::Moved(path) => match parts.uri.query() {
                Some(query) => answers::moved(&format!("{path}?{query}")),
                None => answers::moved(&path),
            },
        }
    }

    async fn new_token(
        &self,
        from: IpAddr,
        parts: &request::Parts,
        body: &Bytes,
    ) -> Response<Body> {
        let size = match asked_size(parts, body) {
            None => self.options.size_default,
            Some(text) => match read_size(&text) {
                Ok(size) => size,
                Err(message) => return answers::error(StatusCode::BAD_REQUEST, &message),
            },
        };
        let Some(prefix) = self.prefix(parts) else {
            let message = "Unable to generate token: the request has no Host header";
            return answers::error(StatusCode::BAD_REQUEST, message);
        };
        if let Err(wait) = self.new.take(from, Instant::now()) {
            self.metrics.refused(Limit::New);
            return answers::too_many(wait);
        }
        if let Err(wait) = self.total.take(TOKEN_BYTES, Instant::now()) {
            self.metrics.refused(Limit::Total);
            return answers::no_room(wait);
        }
        match self.tokens.create(size.get(), self.options.token_ttl).await {
            Ok(token) => {
                self.metrics.token_made();
                info!(token, %size, %from, "new cluster created");
                answers::text(format!("{prefix}/{token}"))
            }
            Err(error) => {
                warn!(%error, %from, "cannot generate a token");
                answers::error(StatusCode::BAD_REQUEST, "Unable to generate token")
            }
        }
    }

    /// The prefix of a token's URL.
    fn prefix(&self, parts: &request::Parts) -> Option<String> {
        if let Some(prefix) = &self.options.prefix {
            return Some(prefix.trim_end_matches('/').to_owned());
        }
        let host = parts.headers.get(header::HOST)?.to_str().ok()?;
        let sane = |c: char| c.is_ascii_alphanumeric() || ".:-_[]".contains(c);
        let scheme = if self.options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        (!host.is_empty() && host.chars().all(sane)).then(|| format!("{scheme}://{host}"))
    }

    /// Creates a token and deletes it.
    async fn healthy(&self) -> Response<Body> {
        let mut health = self.health.lock().await;
        let now = Instant::now();
        let trouble = match *health {
            Some((at, trouble)) if now < at + HEALTH_EVERY => trouble,
            _ => {
                let trouble = self.trouble().await;
                *health = Some((now, trouble));
                trouble
            }
        };
        match trouble {
            None => answers::text("OK"),
            Some(message) => answers::error(StatusCode::BAD_REQUEST, message),
        }
    }

    async fn trouble(&self) -> Option<&'static str> {
        let token = match self.tokens.create(0, Some(HEALTH_TTL)).await {
            Ok(token) => token,
            Err(error) => {
                warn!(%error, "health failed to setupToken");
                return Some("health failed to setupToken");
            }
        };
        let error = self.tokens.delete(&token).await.err()?;
        warn!(%error, "health failed to deleteToken");
        Some("health failed to deleteToken")
    }

    /// Writes below tokens that exist and have room. The original service lets such a write create
    /// tokens without a size and without an end.
    async fn write(
        &self,
        from: IpAddr,
        token: &str,
        id: Option<String>,
        mut parts: request::Parts,
        mut body: Bytes,
    ) -> Response<Body> {
        if let Err(wait) = self.tries.take(from, Instant::now()) {
            self.metrics.refused(Limit::Writes);
            return answers::too_many_writes(wait, token);
        }
        let query = parts.uri.query().map_or(0, str::len);
        let grows = tokens::encoded_size_max(query + body.len());
        let path = tokens::below(token, id.as_deref());
        if id.is_none() {
            // The token itself: the answer is the registry's to a value written at a directory.
            // Options that would change the directory, its time to live for one, are left out.
            parts.uri = "/".parse().expect("a path");
            body = Bytes::from_static(b"value=");
        }
        let Some(request) = onward(&path, parts, body) else {
            return answers::not_found();
        };
        let (limit, wait) = match self.writes.write(token, grows, request).await {
            Ok(WriteOutcome::Answer(answer)) => return passed_on(answer),
            Ok(WriteOutcome::Full(limit)) => (limit, None),
            Ok(WriteOutcome::Later(wait)) => (Limit::Total, Some(wait)),
            Err(error) => return unreachable(&error),
        };
        self.metrics.refused(limit);
        match (limit, wait) {
            (_, Some(wait)) => answers::no_room_below(wait, token),
            (limit, None) => answers::full(limit, token),
        }
    }

    /// Deletes below a token. A deletion changes the registry too, and counts as a write.
    async fn delete(
        &self,
        from: IpAddr,
        path: &str,
        parts: request::Parts,
        body: Bytes,
    ) -> Response<Body> {
        if let Err(wait) = self.tries.take(from, Instant::now()) {
            self.metrics.refused(Limit::Writes);
            let (token, _) = path.split_once('/').unwrap_or((path, ""));
            return answers::too_many_writes(wait, token);
        }
        self.forward(path, parts, body).await
    }

    /// Forwards a request, and its answer as it arrives.
    async fn forward(&self, path: &str, parts: request::Parts, body: Bytes) -> Response<Body> {
        let is_wait = parts.method == Method::GET && is_wait(parts.uri.query());
        let Some(request) = onward(path, parts, body) else {
            return answers::not_found();
        };
        let wait = is_wait.then(|| self.metrics.wait());
        let answered = match wait.is_some() {
            true => self.tokens.registry.call(request).await,
            false => self.tokens.call(request).await,
        };
        match answered {
            Ok(answer) => passed_on(answer).map(|body| open(body, wait)),
            Err(error) => unreachable(&error),
        }
    }
}

/// 500, with the original service's text; etcd's client retries it.
fn unreachable(error: &dyn std::fmt::Display) -> Response<Body> {
    warn!(%error, "the registry does not answer");
    let message = "the registry behind this discovery service does not answer; try again";
    answers::error(StatusCode::INTERNAL_SERVER_ERROR, message)
}
