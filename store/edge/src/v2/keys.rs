//! `/v2/keys` and its subtree.
//!
//! Reads are answered from local state, with or without a leader, at once and without a future
//! (`read_now`): they are almost all of Deis's requests. Only `quorum=true` needs the cluster.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::HttpBody;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode};
use keelson_core::tree::{Action, Event, PATH_BYTES_MAX};

use super::answer::{self, Mark};
use super::auth::access;
use super::backend::TreeBackend;
use super::body::{self, BodyError};
use super::error::{Code, KeyError};
use super::event::{self, SPACE};
use super::form::{Form, FormError};
use super::key_request::Parameters;
use super::{Api, BoxError, media_type, path, watch};
use super::{CROWDED, LISTING_BYTES_MAX};
use crate::calls::Counted;

pub(super) const PREFIX: &str = "/v2/keys";

const ALLOWED: &str = "HEAD,GET,PUT,POST,DELETE";

const TOO_LONG: KeyError = KeyError::new(Code::InvalidField, "the key has more than 4094 bytes");

const UNANSWERED: KeyError = KeyError::new(
    Code::RaftInternal,
    "the change was made, but too many large answers wait for their clients",
);

/// A key as in the request, after "/v2/keys" and decoded; it may end with a slash.
pub(super) struct Key<'a>(pub(super) Cow<'a, [u8]>);

impl Key<'_> {
    /// The path of the key in the tree.
    fn path(&self) -> Bytes {
        let key = self.0.strip_suffix(b"/").unwrap_or(&self.0);
        let mut path = Vec::with_capacity(SPACE.len() + key.len());
        path.extend_from_slice(SPACE);
        path.extend_from_slice(key);
        path.into()
    }

    /// Whether the path exceeds the tree's limit.
    fn is_too_long(&self) -> bool {
        PATH_BYTES_MAX < SPACE.len() + self.0.len()
    }
}

/// Answers a read that needs neither a redirect, nor a password check, nor the quorum.
///
/// # Errors
/// Any other request is left to [`serve`], with the parameters if they were parsed.
pub(super) fn read_now<B: TreeBackend, R>(
    inner: &Api<B>,
    request: &Request<R>,
) -> Result<Response, Option<Parameters>> {
    let method = request.method();
    if *method != Method::GET && *method != Method::HEAD {
        return Err(None);
    }
    let whole = request.uri().path();
    let key = whole.strip_prefix(PREFIX).ok_or(None)?.as_bytes();
    let is_plain = !key.contains(&b'%') && path::is_clean(whole.as_bytes());
    if !matches!(key, [] | [b'/', ..]) || !is_plain {
        return Err(None);
    }
    let key = Key(Cow::Borrowed(key));
    if key.is_too_long() {
        return Ok(inner.answers.key_error(&TOO_LONG));
    }
    let parameters = parse_read(method, request.uri().query());
    let parameters = match parameters {
        Ok(parameters) => parameters,
        Err(error) => return Ok(inner.answers.key_error(&error)),
    };
    if parameters.wait || needs_quorum(method, &parameters) {
        return Err(Some(parameters));
    }
    match access::guest_may(&inner.backend, request.headers(), &key.0, false) {
        Some(true) => Ok(read(inner, &key, parameters.recursive)),
        Some(false) => Ok(inner.answers.key_error(&KeyError::unauthorized())),
        None => Err(Some(parameters)),
    }
}

/// Answers any request. `parameters` are the parameters of a read that [`read_now`] has parsed.
pub(super) async fn serve<B, R>(
    inner: &Api<B>,
    key: Key<'_>,
    parts: &http::request::Parts,
    body: R,
    parameters: Option<Parameters>,
) -> Response
where
    B: TreeBackend,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    if key.is_too_long() {
        return inner.answers.key_error(&TOO_LONG);
    }
    let query = parts.uri.query();
    let answered = match parts.method {
        Method::GET | Method::HEAD => get(inner, &key, parts, parameters).await,
        Method::PUT | Method::POST | Method::DELETE => {
            change(inner, &key, parts, query, body).await
        }
        _ => return answer::not_allowed(ALLOWED),
    };
    answered.unwrap_or_else(|error| refused(inner, &error))
}

/// The answer for an error, which may contain two values of 10 MB.
fn refused<B>(inner: &Api<B>, error: &KeyError) -> Response {
    match inner.events.hold(error.body()) {
        Some(body) => inner.answers.key_error_with(error, body),
        None => inner.answers.key_error(&CROWDED),
    }
}

fn parse_read(method: &Method, query: Option<&str>) -> Result<Parameters, KeyError> {
    let mut form = Form::default();
    form.add(query.unwrap_or_default().as_bytes())?;
    Parameters::parse(method, &form)
}

/// Whether the read needs the quorum. As in etcd, a HEAD ignores `quorum`.
fn needs_quorum(method: &Method, parameters: &Parameters) -> bool {
    parameters.quorum && *method == Method::GET
}

async fn get<B: TreeBackend>(
    inner: &Api<B>,
    key: &Key<'_>,
    parts: &http::request::Parts,
    parameters: Option<Parameters>,
) -> Result<Response, KeyError> {
    let parameters = match parameters {
        Some(parameters) => parameters,
        None => parse_read(&parts.method, parts.uri.query())?,
    };
    authorise(inner, &parts.headers, key, parameters.recursive, false).await?;
    if needs_quorum(&parts.method, &parameters) {
        inner.backend.read_index().await?;
    } else if parameters.wait {
        inner.calls.keys().watch();
        return watch::answer(inner, key.path(), &parameters, parts);
    }
    Ok(read(inner, key, parameters.recursive))
}

fn read<B: TreeBackend>(inner: &Api<B>, key: &Key<'_>, recursive: bool) -> Response {
    let path = key.path();
    let found = inner.backend.tree_list(&path, recursive, LISTING_BYTES_MAX);
    inner.calls.keys().read(recursive, found.is_ok());
    match found {
        Ok((node, index)) => {
            let raft = inner.backend.raft_mark();
            let Some(body) = inner.listings.hold(event::read(&node)) else {
                return inner.answers.key_error(&CROWDED);
            };
            inner
                .answers
                .key(StatusCode::OK, Mark { index, raft }, body)
        }
        Err(error) => inner.answers.key_error(&error.into()),
    }
}

async fn change<B, R>(
    inner: &Api<B>,
    key: &Key<'_>,
    parts: &http::request::Parts,
    query: Option<&str>,
    body: R,
) -> Result<Response, KeyError>
where
    B: TreeBackend,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    let method = &parts.method;
    // Like Go, only the query of a DELETE is read.
    let body = match *method {
        Method::DELETE => Bytes::new(),
        _ => form_body(inner, &parts.headers, body).await?,
    };
    let mut form = Form::default();
    form.add(&body)?;
    form.add(query.unwrap_or_default().as_bytes())?;
    let parameters = Parameters::parse(method, &form)?;
    authorise(inner, &parts.headers, key, parameters.recursive, true).await?;
    let now_ns = inner.backend.now_ns();
    let request = parameters.change(method, key.path(), &mut form, &body, now_ns);
    let counted = Counted::from(request.op());
    let changed = inner.backend.tree_change(request).await;
    inner.calls.keys().count(counted, changed.is_ok());
    let event = changed?;
    changed_to(inner, &event, parameters.no_value_on_success).await
}

async fn changed_to<B: TreeBackend>(
    inner: &Api<B>,
    event: &Arc<Event>,
    brief: bool,
) -> Result<Response, KeyError> {
    let status = match event.action {
        Action::Create => StatusCode::CREATED,
        Action::Set if event.prev.is_none() => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let has_values = matches!(
        event.action,
        Action::Set | Action::Create | Action::Update | Action::CompareAndSwap
    );
    let body = match brief && has_values {
        true => event::action_only(event.action),
        false => encoding(inner, event).await?,
    };
    let mark = Mark {
        index: event.index,
        raft: inner.backend.raft_mark(),
    };
    Ok(inner.answers.key(status, mark, body))
}

/// The encoding of a completed change, after a wait for room if necessary.
async fn encoding<B>(inner: &Api<B>, event: &Arc<Event>) -> Result<Bytes, KeyError> {
    let room = &inner.events;
    if let Some(encoded) = event::encoding(event, room) {
        return Ok(encoded);
    }
    room.wait_for_room_for_all(event::value_bytes(event)).await;
    event::encoding(event, room).ok_or_else(|| {
        let mut unanswered = UNANSWERED;
        unanswered.index = event.index;
        unanswered
    })
}

async fn authorise<B: TreeBackend>(
    inner: &Api<B>,
    headers: &HeaderMap,
    key: &Key<'_>,
    recursive: bool,
    write: bool,
) -> Result<(), KeyError> {
    let may = match access::guest_may(&inner.backend, headers, &key.0, write) {
        Some(may) => may,
        None => access::user_may(inner, headers, &key.0, recursive, write).await?,
    };
    match may {
        true => Ok(()),
        false => Err(KeyError::unauthorized()),
    }
}

/// Reads the body, if it is a form.
async fn form_body<B, R>(inner: &Api<B>, headers: &HeaderMap, body: R) -> Result<Bytes, KeyError>
where
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.map_or(&b""[..], |value| value.as_bytes());
    if !media_type::is_form(content_type).map_err(FormError::MediaType)? {
        return Ok(Bytes::new());
    }
    let read = inner.bodies.read(body, body::FORM_BYTES_MAX).await;
    read.map_err(|error| match error {
        BodyError::TooLarge => FormError::TooLarge.into(),
        BodyError::Broken => FormError::Broken.into(),
        BodyError::Crowded => KeyError::new(Code::RaftInternal, body::CROWDED),
    })
}
