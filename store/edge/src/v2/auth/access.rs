//! Access checks for the v2 keys API.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use super::model::{GUEST, ROOT, User};
use super::records;
use crate::Error;
use crate::v2::backend::TreeBackend;
use crate::v2::{Api, answer};

/// Whether a request may access the key without a password. `None` if it has a password, which
/// must be checked. The key is as in the request.
pub(in crate::v2) fn guest_may<B: TreeBackend>(
    backend: &B,
    headers: &HeaderMap,
    key: &[u8],
    write: bool,
) -> Option<bool> {
    if !records::is_enabled(backend) {
        return Some(true);
    }
    if !authorization(headers).is_empty() {
        return None;
    }
    // As in etcd, a recursive request of a guest is not checked for the whole subtree.
    let guest = records::role(backend, GUEST);
    Some(guest.is_ok_and(|guest| guest.allows(key, write)))
}

/// Whether the user of the request's password may access the key.
///
/// # Errors
/// `TooManyRequests`: too many passwords wait to be checked. In etcd they wait without a bound.
pub(in crate::v2) async fn user_may<B: TreeBackend>(
    inner: &Api<B>,
    headers: &HeaderMap,
    key: &[u8],
    recursive: bool,
    write: bool,
) -> Result<bool, Error> {
    let Some(user) = authenticated(inner, headers).await? else {
        return Ok(false);
    };
    let mut roles = user.roles.iter().flatten();
    Ok(roles.any(|name| {
        let role = records::role(&inner.backend, name);
        role.is_ok_and(|role| match recursive {
            true => role.allows_below(key, write),
            false => role.allows(key, write),
        })
    }))
}

/// Refuses a request that may not change members, users and roles. While auth is off any may.
pub(in crate::v2) async fn require_root<B: TreeBackend>(
    inner: &Api<B>,
    headers: &HeaderMap,
) -> Result<(), Response> {
    if !records::is_enabled(&inner.backend) {
        return Ok(());
    }
    match authenticated(inner, headers).await {
        Ok(Some(user)) if user.has_role(ROOT) => Ok(()),
        Ok(_) => Err(answer::unauthorized()),
        Err(error) => {
            let text = error.to_string();
            Err(answer::message(StatusCode::SERVICE_UNAVAILABLE, &text))
        }
    }
}

/// The name of the user whose password is in the request; `None` while auth is off, and if the
/// password is not right or too many wait to be checked.
pub(in crate::v2) async fn user_name<B: TreeBackend>(
    inner: &Api<B>,
    headers: &HeaderMap,
) -> Option<String> {
    if authorization(headers).is_empty() || !records::is_enabled(&inner.backend) {
        return None;
    }
    let user = authenticated(inner, headers).await.ok()??;
    Some(user.name)
}

/// The user whose name and password are in the request.
async fn authenticated<B: TreeBackend>(
    inner: &Api<B>,
    headers: &HeaderMap,
) -> Result<Option<User>, Error> {
    let Some((name, password)) = basic(authorization(headers)) else {
        return Ok(None);
    };
    let Ok(user) = records::user(&inner.backend, &name) else {
        return Ok(None);
    };
    let passwords = &inner.auth.passwords;
    let is_valid = passwords.check(&user.password, &password).await?;
    Ok(is_valid.then_some(user))
}

fn authorization(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(AUTHORIZATION);
    value.map_or(&b""[..], |value| value.as_bytes())
}

/// The name and password of basic authentication.
fn basic(authorization: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
    Some((text(&decoded[..colon])?, text(&decoded[colon + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_authentication_is_parsed_as_by_go() {
        let parsed = |text: &str| basic(text.as_bytes());
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(parsed("Basic cm9vdDpwdzI="), pair("root", "pw2"));
        assert_eq!(parsed("bAsIc cm9vdDpwOnc="), pair("root", "p:w"));
        for refused in [
            "",
            "x",
            "Basic",
            "Basic zzz",
            "Bearer cm9vdDpwdzI=",
            "Basic cm9vdA==",
        ] {
            assert_eq!(parsed(refused), None, "{refused}");
        }
    }
}
