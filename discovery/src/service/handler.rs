//! One request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use tracing::{info, warn};

use super::asked::{asked_size, read_size};
use super::limits::Tries;
use super::metrics::{Kind, Limit, Metrics, OpenWait};
use super::registry::{Body, Registry, RegistryError};
use super::route::Route;
use super::tokens::{self, Found, ROOT, Tokens};
use super::{ServiceOptions, answers};

/// `/health` writes; no more often than this, however often it is asked.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// A token of `/health` that could not be deleted is gone after this.
const HEALTH_TTL: Duration = Duration::from_secs(60);

/// Of this connection, not of the request. RFC 9110 7.6.1.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// When the last look at our health began, and what it said if it was bad.
type Health = Option<(Instant, Option<&'static str>)>;

pub(super) struct Handler<R> {
    tokens: Tokens<R>,
    options: ServiceOptions,
    metrics: Arc<Metrics>,
    new: Tries,
    writes: Tries,
    health: tokio::sync::Mutex<Health>,
}

impl<R: Registry> Handler<R> {
    pub(super) fn new(
        registry: Arc<R>,
        options: ServiceOptions,
        metrics: Arc<Metrics>,
    ) -> Handler<R> {
        Handler {
            tokens: Tokens {
                registry,
                timeout: options.registry_timeout,
            },
            new: Tries::new(options.new),
            writes: Tries::new(options.writes),
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
        // A value may also stand in the query.
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

    /// What a token's URL begins with.
    fn prefix(&self, parts: &request::Parts) -> Option<String> {
        if let Some(prefix) = &self.options.prefix {
            return Some(prefix.trim_end_matches('/').to_owned());
        }
        let host = parts.headers.get(header::HOST)?.to_str().ok()?;
        let sane = |c: char| c.is_ascii_alphanumeric() || ".:-_[]".contains(c);
        (!host.is_empty() && host.chars().all(sane)).then(|| format!("http://{host}"))
    }

    /// Makes a token and deletes it.
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

    /// Writes below tokens that exist and are not overcrowded. The original lets anybody make
    /// tokens without a size, and without end, this way.
    async fn write(
        &self,
        from: IpAddr,
        token: &str,
        id: Option<String>,
        mut parts: request::Parts,
        mut body: Bytes,
    ) -> Response<Body> {
        if let Err(wait) = self.writes.take(from, Instant::now()) {
            self.metrics.refused(Limit::Writes);
            return answers::too_many_writes(wait, token);
        }
        let query = parts.uri.query().map_or(0, str::len);
        let grows = tokens::grown(query + body.len());
        match self.tokens.look(token).await {
            Ok(Found::Entries(count, _)) if self.options.entries_max <= count => {
                self.metrics.refused(Limit::Entries);
                let message = "the token has too many entries; make a new one";
                return answers::keys_error(StatusCode::FORBIDDEN, message, token);
            }
            Ok(Found::Entries(_, bytes))
                if parts.method != Method::DELETE && tokens::TOKEN_MAX < bytes + grows =>
            {
                self.metrics.refused(Limit::Size);
                let message = "the token's entries are too large; make a new one";
                return answers::keys_error(StatusCode::FORBIDDEN, message, token);
            }
            Ok(Found::Entries(..)) => {}
            Ok(Found::Refused(answer)) => return passed_on(answer),
            Err(error) => return unreachable(&error),
        }
        let path = tokens::below(token, id.as_deref());
        if id.is_none() {
            // The token itself: what the registry says to a value in a directory's place. Options
            // that would change the directory, its end of life for one, are left out.
            parts.uri = "/".parse().expect("a path");
            body = Bytes::from_static(b"value=");
        }
        self.forward(&path, parts, body).await
    }

    /// Passes a request on, and its answer back as it comes.
    async fn forward(&self, path: &str, parts: request::Parts, body: Bytes) -> Response<Body> {
        let mut target = format!("{ROOT}/{path}");
        if let Some(query) = parts.uri.query() {
            target.push('?');
            target.push_str(query);
        }
        let Ok(uri) = target.parse() else {
            return answers::not_found();
        };
        let is_wait = parts.method == Method::GET && is_wait(parts.uri.query());
        let wait = is_wait.then(|| self.metrics.wait());
        let mut request = Request::new(body);
        *request.uri_mut() = uri;
        *request.method_mut() = parts.method;
        *request.headers_mut() = end_to_end(parts.headers);
        for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
            request.headers_mut().remove(name);
        }
        let calling = self.tokens.registry.call(request);
        let answered = match wait.is_some() {
            true => calling.await,
            false => match timeout(self.tokens.timeout, calling).await {
                Ok(answered) => answered,
                Err(_) => Err(RegistryError::Timeout(self.tokens.timeout)),
            },
        };
        match answered {
            Ok(answer) => passed_on(answer).map(|body| open(body, wait)),
            Err(error) => unreachable(&error),
        }
    }
}

/// A wait is open until its body is sent, or its client has left.
fn open(body: Body, wait: Option<OpenWait>) -> Body {
    match wait {
        None => body,
        Some(wait) => body
            .map_frame(move |frame| {
                let _open = &wait;
                frame
            })
            .boxed_unsync(),
    }
}

fn passed_on(answer: Response<Body>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    parts.headers = end_to_end(parts.headers);
    parts.version = http::Version::HTTP_11;
    Response::from_parts(parts, body)
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}

/// 500, as the original says it; etcd's client tries again.
fn unreachable(error: &dyn std::fmt::Display) -> Response<Body> {
    warn!(%error, "the registry does not answer");
    let message = "the registry behind this discovery service does not answer; try again";
    answers::error(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn is_wait(query: Option<&str>) -> bool {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs
        .into_iter()
        .any(|(key, value)| key == "wait" && value != "false")
}
