//! etcd's v2 API over HTTP, for Deis, fleet, confd, flannel, locksmith and etcdctl.
//!
//! There is one file for each resource; its first lines list the differences to etcd, with the
//! reason. The model is etcd 3.4.23 with `--enable-v2`, whose v2 code is almost that of 2.3.8.
//! Where the two differ, clients of 2.3's time are not affected, so 3.4 is followed. Answers carry
//! the headers for pages of any origin, `noValueOnSuccess` exists, a semicolon in a query or a form
//! is an error. Differences to both:
//!
//! - A key's `ttl` is never negative. etcd reports how long an overdue key should have been gone.
//! - A path with a bare `<`, `>` or backtick, or a query with a bare `"`, `<` or `>`, is not valid
//!   HTTP for hyper. The port escapes it, if all earlier requests on the connection are plain.
//! - The limits, with etcd's in brackets: a key of 4,094 bytes (a first request line of 4 KiB) and
//!   a listing of 256 MiB (none), beyond which the answer is error 209; a form of 10 MiB (the same)
//!   and so a value of almost that, beyond which it is error 210; a target and headers of 64 KiB
//!   (1 MiB); a minute for a body (none).
//! - Of all clients together, 256 MiB of bodies above 16 KiB (`body`), 512 MiB of listings of
//!   64 KiB or more, and 512 MiB of other answers of that size (`edge::large`). Without room the
//!   answer is error 300.
//! - The history is limited to 64 MiB as well as to 1,000 events: error 401 beyond.
//! - An answer has a content length, where etcd sends chunks; a watch that waits is sent in chunks.
//!
//! A path that is not clean is redirected (`path`). `keys` serves the keys API: `form` and
//! `media_type` parse a form, and `key_request` its parameters. `event` and `json` encode the
//! tree's answers, `error` its errors, and `watch` contains the waits. `backend` is the interface
//! of the member.

mod answer;
mod auth;
mod backend;
mod body;
mod error;
mod event;
mod form;
pub(crate) mod json;
mod key_request;
mod keys;
mod log_level;
mod machines;
mod media_type;
mod members;
mod path;
mod stats;
#[cfg(test)]
mod tests;
mod watch;

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Version};
use keelson_port::{Drain, Incoming};

pub use self::backend::{
    ChangeError, FollowerStats, LeaderStats, LogLevel, Rate, SelfStats, TreeBackend, TreeWatch,
    WatchEnd,
};
use self::error::{Code, KeyError};
pub use self::json::time_text;
use self::key_request::Parameters;
use super::calls::CallMetrics;
use super::go::{allow_any_origin, not_found_page};
use super::large::LargeAnswers;
use super::rates::{self, OverLimit, Rates, VerifiedUser};
use super::service::{Intercepted, Interceptor};

/// The largest listing, approximately, in bytes.
const LISTING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The limit of all large answers of a kind together, in bytes. The estimate of a listing does
/// not include JSON's escapes.
const ANSWERS_BYTES_MAX: usize = 2 * LISTING_BYTES_MAX;

/// The error for a request whose answer has no room.
const CROWDED: KeyError = KeyError::new(
    Code::RaftInternal,
    "too many large answers wait for their clients; try again",
);

/// The error of a request's body.
type BoxError = Box<dyn Error + Send + Sync>;

/// The API of one member. Clones share its state.
pub struct V2<B>(Arc<Api<B>>);

impl<B> Clone for V2<B> {
    fn clone(&self) -> V2<B> {
        V2(Arc::clone(&self.0))
    }
}

struct Api<B> {
    backend: B,
    answers: answer::Answers,
    auth: auth::Auth,
    calls: CallMetrics,
    bodies: body::Bodies,
    listings: LargeAnswers,
    /// The budget for answers to changes and watches, and for errors.
    events: LargeAnswers,
    drain: Drain,
    rates: Rates,
}

/// The redirect for a path outside the v2 API that is not clean. etcd redirects these too:
/// "//health", "//v2/keys".
fn redirected<R>(request: &Request<R>) -> Option<Response> {
    let decoded = path::decode(request.uri().path())?;
    if path::is_clean(&decoded) || *request.method() == Method::OPTIONS {
        return None;
    }
    let mut response = path::redirect(request.method(), &decoded, request.uri().query());
    allow_any_origin(response.headers_mut());
    Some(response)
}

impl<B: TreeBackend> V2<B> {
    /// The API of `backend`. Watches over HTTP/2 end when the drain begins.
    pub fn new(backend: B, drain: &Drain, calls: CallMetrics) -> V2<B> {
        V2::limited(backend, drain, calls, Rates::default())
    }

    /// The same with limits of rate for its users.
    pub fn limited(backend: B, drain: &Drain, calls: CallMetrics, rates: Rates) -> V2<B> {
        V2(Arc::new(Api {
            answers: answer::Answers::new(backend.cluster_id()),
            auth: auth::Auth::default(),
            calls,
            bodies: body::Bodies::default(),
            listings: LargeAnswers::within(ANSWERS_BYTES_MAX),
            events: LargeAnswers::within(ANSWERS_BYTES_MAX),
            drain: drain.clone(),
            rates,
            backend,
        }))
    }

    /// The same with too many logins.
    #[cfg(test)]
    fn crowded(&self) -> V2<B> {
        let (_, drain) = Drain::channel();
        let mut api = V2::new(self.0.backend.clone(), &drain, CallMetrics::default());
        Arc::get_mut(&mut api.0).expect("the only one").auth = auth::Auth::crowded();
        api
    }

    /// Whether a path belongs to this API.
    pub fn owns(path: &str) -> bool {
        let below = path.strip_prefix("/v2");
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            || path == log_level::PATH
    }

    /// The answer to a read of a key from local state, without waiting; almost all requests.
    /// `None` for other requests, which `answer` takes.
    pub fn answer_now<R>(&self, request: &Request<R>) -> Option<Response> {
        self.try_now(request).ok()
    }

    /// As [`V2::answer_now`]; the error is for [`V2::answer_later`].
    fn try_now<R>(&self, request: &Request<R>) -> Result<Response, Option<Parameters>> {
        let mut response = keys::read_now(&self.0, request)?;
        allow_any_origin(response.headers_mut());
        Ok(response)
    }

    /// The answer to any request for a path of this API, or for one that is not clean.
    pub async fn answer<R>(&self, request: Request<R>) -> Response
    where
        R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
    {
        match self.try_now(&request) {
            Ok(response) => response,
            Err(parameters) => self.answer_later(request, parameters).await,
        }
    }

    /// The answer to a request without an immediate one. `parameters` are its parameters if they
    /// were parsed already.
    async fn answer_later<R>(&self, request: Request<R>, parameters: Option<Parameters>) -> Response
    where
        R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
    {
        let (parts, body) = request.into_parts();
        let mut response = match parts.method {
            // A browser's preflight request, for any path.
            Method::OPTIONS => Response::default(),
            _ => match self.0.charge_user(&parts).await {
                Ok(()) => self.0.serve(&parts, body, parameters).await,
                Err(over) => over.answer(self.0.error(parts.uri.path(), &rates::text())),
            },
        };
        allow_any_origin(response.headers_mut());
        response
    }
}

impl<B: TreeBackend> Interceptor for V2<B> {
    fn intercept(&self, request: Request<Incoming>) -> Intercepted {
        if !V2::<B>::owns(request.uri().path()) {
            return match redirected(&request) {
                Some(response) => Intercepted::Answered(response),
                None => Intercepted::Passed(request),
            };
        }
        match self.try_now(&request) {
            Ok(response) => Intercepted::Answered(response),
            Err(parameters) => {
                let v2 = self.clone();
                Intercepted::Pending(Box::pin(async move {
                    v2.answer_later(request, parameters).await
                }))
            }
        }
    }

    fn error(&self, path: &str, text: &str) -> Option<Response> {
        let mut response = V2::<B>::owns(path).then(|| self.0.error(path, text))?;
        allow_any_origin(response.headers_mut());
        Some(response)
    }
}

impl<B: TreeBackend> Api<B> {
    /// Charges the user whose password is in the request, before its body is read. Another request
    /// is refused later, or a guest's, and charges no user.
    async fn charge_user(&self, parts: &Parts) -> Result<(), OverLimit> {
        if !self.rates.limits_users() {
            return Ok(());
        }
        match auth::access::user_name(self, &parts.headers).await {
            Some(name) => self.rates.charge(VerifiedUser::V2(name)),
            None => Ok(()),
        }
    }

    /// An error that no resource has made, in the form of the path's resource.
    fn error(&self, path: &str, text: &str) -> Response {
        match below(path.as_bytes(), keys::PREFIX) {
            Some(_) => self.answers.key_error(&KeyError::other(text)),
            None => answer::message(StatusCode::INTERNAL_SERVER_ERROR, text),
        }
    }

    async fn serve<R>(&self, parts: &Parts, body: R, parameters: Option<Parameters>) -> Response
    where
        R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
    {
        let Some(decoded) = path::decode(parts.uri.path()) else {
            return bad_request(parts.version);
        };
        if !path::is_clean(&decoded) {
            return path::redirect(&parts.method, &decoded, parts.uri.query());
        }
        if let Some(key) = below(&decoded, keys::PREFIX) {
            let key = keys::Key(Cow::Borrowed(key));
            return keys::serve(self, key, parts, body, parameters).await;
        }
        // A name that is not UTF-8 does not exist, so the replacement only affects the error's
        // text.
        let decoded = String::from_utf8_lossy(&decoded);
        if let Some(below) = below(decoded.as_bytes(), "/v2/members") {
            let id = below.strip_prefix(b"/").unwrap_or_default();
            return members::serve(self, &String::from_utf8_lossy(id), parts, body).await;
        }
        let response = match &*decoded {
            log_level::PATH => Some(log_level::serve(self, parts, body).await),
            "/v2/machines" => Some(machines::serve(&self.backend, &parts.method)),
            other => match (
                other.strip_prefix("/v2/stats/"),
                other.strip_prefix("/v2/auth/"),
            ) {
                (Some(what), _) => stats::serve(self, what, &parts.method),
                (_, Some(what)) => auth::serve(self, what, parts, body).await,
                _ => None,
            },
        };
        response.unwrap_or_else(not_found_page)
    }
}

/// The rest after a prefix: empty, or a slash and more.
fn below<'a>(path: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let below = path.strip_prefix(prefix.as_bytes())?;
    matches!(below, [] | [b'/', ..]).then_some(below)
}

/// The error of Go's server for a request that it cannot parse, after which it closes the
/// connection.
fn bad_request(version: Version) -> Response {
    let mut response = Response::new(Body::from("400 Bad Request"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(http::header::CONTENT_TYPE, text);
    if version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
