//! `/v2/members`.
//!
//! Differences to etcd: the parser's error for a body that is not JSON, except for the most
//! common ones; and `DELETE` answers 410 for any removed member, as 2.3 does.

use axum::body::HttpBody;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, StatusCode};
use keelson_core::{MemberId, state};
use keelson_port::url::{Url, UrlError};
use keelson_proto::etcdserverpb::{Member, MemberAddRequest, MemberUpdateRequest};
use serde_json::Value;

use super::auth::access;
use super::backend::TreeBackend;
use super::body::{self, BodyError};
use super::{Api, BoxError, answer, json};
use crate::Error;
use crate::go::plain;

const ALLOWED: &str = "GET,POST,DELETE,PUT";

/// `below` is the path after "/v2/members/".
pub(super) async fn serve<B, R>(inner: &Api<B>, below: &str, parts: &Parts, body: R) -> Response
where
    B: TreeBackend,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    let changes = match parts.method {
        Method::GET => false,
        Method::POST | Method::PUT | Method::DELETE => true,
        _ => return answer::not_allowed(ALLOWED),
    };
    if changes && let Err(refused) = access::require_root(inner, &parts.headers).await {
        return refused;
    }
    match parts.method {
        Method::GET => get(inner, below),
        Method::POST => match peer_urls(inner, parts, body).await {
            Ok(urls) => add(inner, urls).await,
            Err(refused) => refused.answer(inner),
        },
        Method::PUT => match id(below) {
            Ok(id) => match peer_urls(inner, parts, body).await {
                Ok(urls) => update(inner, id, urls).await,
                Err(refused) => refused.answer(inner),
            },
            Err(refused) => refused.answer(inner),
        },
        _ => match id(below) {
            Ok(id) => remove(inner, id).await,
            Err(refused) => refused.answer(inner),
        },
    }
}

fn get<B: TreeBackend>(inner: &Api<B>, below: &str) -> Response {
    match below {
        "" => {
            let mut members = inner.backend.members();
            members.sort_unstable_by_key(|member| member.id);
            inner.answers.json(StatusCode::OK, list(&members))
        }
        "leader" => leader(inner),
        _ => inner.answers.message(StatusCode::NOT_FOUND, "Not found"),
    }
}

fn leader<B: TreeBackend>(inner: &Api<B>) -> Response {
    let leader = inner.backend.leader();
    let mut members = inner.backend.members().into_iter();
    match members.find(|member| leader != MemberId::NONE && member.id == leader.0) {
        Some(member) => inner.answers.json(StatusCode::OK, one(&member)),
        None => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            inner.answers.message(status, "During election")
        }
    }
}

async fn add<B: TreeBackend>(inner: &Api<B>, urls: Vec<String>) -> Response {
    let request = MemberAddRequest {
        peer_ur_ls: urls,
        is_learner: false,
    };
    match inner.backend.member_add(request).await {
        Ok(added) => {
            let member = added.member.unwrap_or_default();
            inner.answers.json(StatusCode::CREATED, one(&member))
        }
        Err(error) => failed(inner, MemberId::NONE, &error),
    }
}

async fn update<B: TreeBackend>(inner: &Api<B>, id: MemberId, urls: Vec<String>) -> Response {
    let request = MemberUpdateRequest {
        id: id.0,
        peer_ur_ls: urls,
    };
    match inner.backend.member_update(request).await {
        Ok(_) => no_content(inner),
        // etcd's UpdateMember detects removed members, but its handler does not.
        Err(Error::State(state::Error::MemberNotFound)) if inner.backend.is_removed(id) => {
            inner.answers.internal()
        }
        Err(error) => failed(inner, id, &error),
    }
}

async fn remove<B: TreeBackend>(inner: &Api<B>, id: MemberId) -> Response {
    let gone = || {
        let text = format!("Member permanently removed: {id}");
        inner.answers.message(StatusCode::GONE, &text)
    };
    if inner.backend.is_removed(id) {
        return gone();
    }
    match inner.backend.member_remove(id).await {
        Ok(_) => no_content(inner),
        // A member that was behind has applied the removal meanwhile.
        Err(Error::State(state::Error::MemberNotFound)) if inner.backend.is_removed(id) => gone(),
        Err(error) => failed(inner, id, &error),
    }
}

fn no_content<B>(inner: &Api<B>) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    inner.answers.name_cluster(response)
}

fn failed<B>(inner: &Api<B>, id: MemberId, error: &Error) -> Response {
    let message = |status, text: &str| inner.answers.message(status, text);
    match error {
        Error::State(state::Error::PeerUrlExist) => {
            message(StatusCode::CONFLICT, "membership: peerURL exists")
        }
        Error::State(state::Error::MemberExist) => {
            message(StatusCode::CONFLICT, "membership: ID exists")
        }
        Error::State(state::Error::MemberNotFound) => {
            let text = format!("No such member: {id}");
            message(StatusCode::NOT_FOUND, &text)
        }
        _ => inner.answers.internal(),
    }
}

/// Why a request was refused.
enum Refusal {
    NoId,
    Message(StatusCode, String),
}

impl Refusal {
    fn answer<B>(self, inner: &Api<B>) -> Response {
        match self {
            Refusal::NoId => {
                let refused = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
                inner.answers.name_cluster(refused)
            }
            Refusal::Message(status, text) => inner.answers.message(status, &text),
        }
    }
}

fn id(below: &str) -> Result<MemberId, Refusal> {
    if below.is_empty() {
        return Err(Refusal::NoId);
    }
    let digits = Some(below).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let id = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let unknown = || Refusal::Message(StatusCode::NOT_FOUND, format!("No such member: {below}"));
    id.map(MemberId).ok_or_else(unknown)
}

/// The URLs in the body of a POST or PUT: `{"peerURLs":[..]}`.
async fn peer_urls<B, R>(inner: &Api<B>, parts: &Parts, body: R) -> Result<Vec<String>, Refusal>
where
    B: TreeBackend,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    check_type(parts)?;
    let refuse = |text: String| Refusal::Message(StatusCode::BAD_REQUEST, text);
    let bytes_max = inner.backend.max_request_bytes();
    let read = inner.bodies.read(body, bytes_max).await;
    let body = read.map_err(|error| match error {
        BodyError::TooLarge => refuse("http: request body too large".to_owned()),
        BodyError::Broken => refuse("unexpected EOF".to_owned()),
        BodyError::Crowded => {
            Refusal::Message(StatusCode::SERVICE_UNAVAILABLE, body::CROWDED.to_owned())
        }
    })?;
    let urls = parse_peer_urls(&body).map_err(refuse)?;
    checked_urls(&urls).map_err(|error| refuse(error.to_string()))
}

/// `types.NewURLs`: checks and sorts the URLs.
fn checked_urls(urls: &[String]) -> Result<Vec<String>, UrlError> {
    if urls.is_empty() {
        return Err(UrlError::Empty);
    }
    let urls: Result<Vec<Url>, UrlError> = urls.iter().map(|url| Url::parse(url)).collect();
    let mut urls = urls?;
    urls.sort();
    Ok(urls.iter().map(|url| url.as_str().to_owned()).collect())
}

/// Checks the content type, which must match exactly unless parameters follow it.
fn check_type(parts: &Parts) -> Result<(), Refusal> {
    let named = parts.headers.get(CONTENT_TYPE);
    let named = named.map_or(&b""[..], |value| value.as_bytes());
    let mut kind = String::from_utf8_lossy(named).into_owned();
    if let Some((before, _)) = kind.split_once(';') {
        kind = before.to_lowercase().trim().to_owned();
    }
    if kind == "application/json" {
        return Ok(());
    }
    let text = format!("Bad Content-Type {kind}, accept application/json");
    Err(Refusal::Message(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

fn parse_peer_urls(body: &[u8]) -> Result<Vec<String>, String> {
    let body = String::from_utf8_lossy(body);
    let value = serde_json::from_str(&body).map_err(|error| gos_words(&body, &error))?;
    let fields = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(fields) => fields,
        other => {
            let kind = gos_kind(&other);
            return Err(format!(
                "json: cannot unmarshal {kind} into Go value of type \
                 struct {{ PeerURLs []string \"json:\\\"peerURLs\\\"\" }}"
            ));
        }
    };
    let mut fields = fields.into_iter();
    let urls = fields.find(|(name, _)| name.eq_ignore_ascii_case("peerURLs"));
    match urls {
        None | Some((_, Value::Null)) => Ok(Vec::new()),
        Some((_, Value::Array(urls))) => urls.into_iter().map(peer_url).collect(),
        Some((_, other)) => Err(wrong_field(&other, "[]string")),
    }
}

fn peer_url(value: Value) -> Result<String, String> {
    match value {
        Value::String(url) => Ok(url),
        Value::Null => Ok(String::new()),
        other => Err(wrong_field(&other, "string")),
    }
}

fn wrong_field(value: &Value, expected: &str) -> String {
    let kind = gos_kind(value);
    format!("json: cannot unmarshal {kind} into Go struct field .peerURLs of type {expected}")
}

fn gos_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The error of Go's parser for text that is not JSON.
fn gos_words(body: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let lines = body.split_inclusive('\n');
    let before: usize = lines.take(error.line() - 1).map(str::len).sum();
    let at = before + error.column().saturating_sub(1);
    let character = body.get(at..).and_then(|rest| rest.chars().next());
    let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
    let place = match error.to_string() {
        text if text.starts_with("trailing characters") => "after top-level value",
        text if text.starts_with("key must be a string") => {
            "looking for beginning of object key string"
        }
        _ => "looking for beginning of value",
    };
    format!("invalid character '{character}' {place}")
}

fn list(members: &[Member]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + 256 * members.len());
    out.extend_from_slice(b"{\"members\":[");
    for (at, member) in members.iter().enumerate() {
        if at != 0 {
            out.put_u8(b',');
        }
        write(&mut out, member);
    }
    out.extend_from_slice(b"]}\n");
    out.freeze()
}

fn one(member: &Member) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    write(&mut out, member);
    out.put_u8(b'\n');
    out.freeze()
}

/// Writes a member. One that has not started has neither a name nor client URLs.
fn write(out: &mut BytesMut, member: &Member) {
    out.extend_from_slice(b"{\"id\":");
    json::string(out, MemberId(member.id).to_string().as_bytes());
    out.extend_from_slice(b",\"name\":");
    json::string(out, member.name.as_bytes());
    out.extend_from_slice(b",\"peerURLs\":");
    json::strings(out, Some(&member.peer_ur_ls));
    out.extend_from_slice(b",\"clientURLs\":");
    json::strings(out, Some(&member.client_ur_ls));
    out.put_u8(b'}');
}
