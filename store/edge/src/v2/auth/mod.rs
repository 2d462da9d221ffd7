//! `/v2/auth`: users, roles and permissions of the v2 API, as in etcd 2.1 to 3.4.
//!
//! Users and roles are JSON in the tree itself, under "/2" (`records`), so they are in the log
//! and in snapshots. A password is checked against its bcrypt hash (`passwords`), and a key
//! against the roles' patterns (`access`). `model` contains users, roles, and their changes.
//!
//! Differences to etcd: a role whose name has a slash does not exist (etcd would read another
//! key), and an empty pattern matches nothing (etcd closes the connection).

pub(super) mod access;
mod enable;
mod model;
mod records;
mod roles;
mod users;

use std::sync::atomic::AtomicBool;

use axum::body::HttpBody;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use keelson_core::tree::TreeError;

use super::backend::TreeBackend;
use super::body::{self, BodyError};
use super::error::KeyError;
use super::form::Form;
use super::{Api, BoxError, answer};
use crate::Error;
use crate::passwords::Passwords;
use crate::v2::ChangeError;

/// The largest user or role, in bytes.
const BODY_BYTES_MAX: usize = 512 * 1024;

const INVALID_JSON: &str = "Invalid JSON in request body.";

/// The auth state of a member that is not in the tree.
#[derive(Default)]
pub(super) struct Auth {
    passwords: Passwords,
    /// The directories under "/2" exist.
    has_directories: AtomicBool,
}

#[cfg(test)]
impl Auth {
    /// With too many logins.
    pub(super) fn crowded() -> Auth {
        Auth {
            passwords: Passwords::crowded(),
            ..Auth::default()
        }
    }
}

/// Why a request about users or roles failed.
#[derive(Clone, Debug, PartialEq)]
enum AuthError {
    /// A refusal, with etcd's text.
    Refused(StatusCode, String),
    /// The tree's error.
    Tree(TreeError),
    /// The outcome is unknown.
    Other(Error),
}

impl AuthError {
    fn refused(status: StatusCode, text: String) -> AuthError {
        AuthError::Refused(status, format!("auth: {text}"))
    }
}

impl From<TreeError> for AuthError {
    fn from(error: TreeError) -> AuthError {
        AuthError::Tree(error)
    }
}

impl From<Error> for AuthError {
    fn from(error: Error) -> AuthError {
        AuthError::Other(error)
    }
}

impl From<ChangeError> for AuthError {
    fn from(error: ChangeError) -> AuthError {
        match error {
            ChangeError::Tree(error) => AuthError::Tree(error),
            ChangeError::Other(error) => AuthError::Other(error),
        }
    }
}

/// `what` is the path after "/v2/auth/". `None` if no such resource exists.
pub(super) async fn serve<B, R>(
    inner: &Api<B>,
    what: &str,
    parts: &Parts,
    body: R,
) -> Option<Response>
where
    B: TreeBackend,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    let (kind, name) = match what.split_once('/') {
        Some((kind, name)) => (kind, name.strip_suffix('/').unwrap_or(name)),
        None => (what, ""),
    };
    let is_collection = name.is_empty();
    let allowed = match (kind, is_collection) {
        ("users" | "roles", true) => "GET",
        ("users" | "roles", false) if name.contains('/') => {
            let refused = answer::message(StatusCode::BAD_REQUEST, "Invalid path");
            return Some(refused);
        }
        ("users" | "roles", false) => "GET,PUT,DELETE",
        ("enable", true) if what == "enable" => "GET,PUT,DELETE",
        _ => return None,
    };
    if !allowed.split(',').any(|method| parts.method == method) {
        return Some(answer::not_allowed(allowed));
    }
    // Whether auth is on can be read without a password.
    let open = kind == "enable" && parts.method == Method::GET;
    if !open && let Err(refused) = access::require_root(inner, &parts.headers).await {
        return Some(refused);
    }
    let answered = match (kind, is_collection) {
        ("enable", _) => enable::serve(inner, &parts.method).await,
        ("users", true) => users::list(inner, parts),
        ("users", false) => users::serve(inner, name, parts, body).await,
        (_, true) => roles::list(inner, parts),
        (_, false) => roles::serve(inner, name, parts, body).await,
    };
    Some(answered.unwrap_or_else(|error| failed(inner, error)))
}

fn failed<B>(inner: &Api<B>, error: AuthError) -> Response {
    match error {
        AuthError::Refused(status, text) => inner.answers.message(status, &text),
        AuthError::Tree(error) => inner.answers.key_error(&KeyError::from(error)),
        AuthError::Other(_) => inner.answers.internal(),
    }
}

/// Checks the query of a listing. Like Go, a query that cannot be parsed is an internal error.
fn check_query(parts: &Parts) -> Result<(), AuthError> {
    let query = parts.uri.query().unwrap_or_default();
    let parsed = Form::default().add(query.as_bytes());
    parsed.map_err(|error| AuthError::Other(Error::Internal(error.to_string())))
}

/// Reads the body of a PUT.
async fn read_body<B, R>(inner: &Api<B>, body: R) -> Result<Bytes, AuthError>
where
    R: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    let read = inner.bodies.read(body, BODY_BYTES_MAX).await;
    read.map_err(|error| match error {
        BodyError::Crowded => {
            AuthError::Refused(StatusCode::SERVICE_UNAVAILABLE, body::CROWDED.to_owned())
        }
        BodyError::TooLarge | BodyError::Broken => bad_request(INVALID_JSON),
    })
}

/// An error without "auth: " in front, as in etcd.
fn bad_request(text: &str) -> AuthError {
    AuthError::Refused(StatusCode::BAD_REQUEST, text.to_owned())
}
