//! From a request's token to its caller.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Extensions, HeaderMap};
use keelson_core::MemberId;
use keelson_core::state::Error as StateError;
use keelson_core::state::auth::Caller;
use keelson_port::ClientName;
use tokio::sync::Semaphore;
use tonic::Status;

use super::jwt::{JwtClaims, JwtKeys};
use super::tokens::{Claims, SeenTokens, signature};
use crate::Error;
use crate::account::client;
use crate::backend::Backend;
use crate::turns::Account;

/// How long a request waits until this member has applied the login of its token.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// What gateways and proxies add to the calls of their clients: grpc-gateway's, Keelson's and
/// others.
const FORWARDED: [&str; 5] = [
    "grpcgateway-accept",
    "keelson-proxied-by",
    "x-forwarded-for",
    "forwarded",
    "via",
];

/// The most queries of other members for the uses of tokens at a time.
const QUERIES_MAX: usize = 8;

/// The members' handle for requests of clients. It has no user by itself: a service that does not
/// resolve the caller of a request can do nothing while auth is enabled.
#[derive(Clone)]
pub(in crate::v3) struct Sessions<B> {
    /// Of a caller without a user.
    anonymous: B,
    seen: Arc<SeenTokens>,
    queries: Arc<Semaphore>,
}

impl<B: Backend> Sessions<B> {
    pub(in crate::v3) fn new(backend: &B) -> Sessions<B> {
        Sessions {
            anonymous: backend.acting_as(Caller::Anonymous),
            seen: backend.seen_tokens(),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
        }
    }

    /// The handle of a caller without a user, for what concerns no caller.
    pub(in crate::v3) fn anonymous(&self) -> &B {
        &self.anonymous
    }

    /// The handle for this request.
    ///
    /// # Errors
    /// The token is not valid.
    pub(in crate::v3) async fn of<T>(&self, request: &tonic::Request<T>) -> Result<B, Status> {
        let metadata = request.metadata().as_ref();
        Ok(self.of_headers(metadata, request.extensions()).await?)
    }

    /// The account of a call that is not decoded yet: its user while auth is enabled, without a
    /// token that the user may have now its connection.
    pub(in crate::v3) fn account(&self, headers: &HeaderMap, extensions: &Extensions) -> Account {
        let named = || {
            if !self.anonymous.auth_enabled() {
                return None;
            }
            let Some(token) = token_of(headers) else {
                return self.certificate_user(headers, extensions);
            };
            let token = text_of(token)?;
            let auth = self.anonymous.auth();
            if let Some((keys, _)) = self.anonymous.jwt() {
                let JwtClaims { username, revision } = keys.verified(token, now())?;
                return auth
                    .caller_of(username.clone(), revision)
                    .ok()
                    .map(|_| username);
            }
            let claims = Claims::verified(token, &auth.secret)?;
            // Not one from before the user's password was changed, or the user deleted.
            let is_valid = auth.user(&claims.name)?.since == claims.since;
            is_valid.then_some(claims.name)
        };
        match named() {
            Some(name) => Account::User(name),
            None => Account::Connection(client()),
        }
    }

    /// As [`Sessions::of`], for a call that is not decoded yet.
    pub(in crate::v3) async fn of_headers(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<B, Error> {
        let is_enabled = self.is_enabled(headers).await;
        match token_of(headers) {
            Some(token) if is_enabled => self.with_token(token).await,
            Some(_) => Ok(self.anonymous.clone()),
            // Also while auth is off: it may be enabled before the call ends, or be enabled at the
            // entry of its command.
            None => Ok(match self.certificate_user(headers, extensions) {
                Some(name) => self.anonymous.acting_as(Caller::User { name, since: 0 }),
                None => self.anonymous.clone(),
            }),
        }
    }

    /// Whether auth is enabled, for a call. If its token is of a login that this member has not
    /// applied, auth may have been enabled meanwhile: what is committed is applied first.
    async fn is_enabled(&self, headers: &HeaderMap) -> bool {
        let backend = &self.anonymous;
        if backend.auth_enabled() {
            return true;
        }
        if token_of(headers).is_some_and(|token| self.is_ahead(token)) {
            // Without a quorum the call has no user: what needs one is refused where it is applied.
            self.catch_up().await;
        }
        backend.auth_enabled()
    }

    /// Waits until what is committed is applied here, for a bounded time; not at all without a
    /// leader. Returns whether it is.
    async fn catch_up(&self) -> bool {
        let backend = &self.anonymous;
        if backend.leader() == MemberId::NONE {
            return false;
        }
        let applied = tokio::time::timeout(CATCH_UP_MAX, backend.read_index()).await;
        matches!(applied, Ok(Ok(())))
    }

    /// Whether a token states a login that this member has not applied.
    fn is_ahead(&self, token: &[u8]) -> bool {
        let backend = &self.anonymous;
        let Some(token) = text_of(token) else {
            return false;
        };
        match backend.jwt() {
            Some((keys, _)) => {
                // It advances when auth is disabled, and not when it is enabled.
                let revision = backend.auth().revision;
                let claims = keys.verified(token, now());
                claims.is_some_and(|claims| revision <= claims.revision)
            }
            // The key may be among what is not applied.
            None => {
                let applied = backend.raft_status().applied;
                Claims::unverified(token).is_some_and(|claims| applied < claims.applied)
            }
        }
    }

    /// The user whom the client's certificate names. That of a proxy or gateway is not its clients'
    /// (etcd#9720): a call that was forwarded has no user.
    fn certificate_user(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
        let name = extensions.get::<ClientName>()?;
        let is_forwarded = || FORWARDED.iter().any(|name| headers.contains_key(*name));
        let counts = self.anonymous.has_certificate_users() && !is_forwarded();
        counts.then(|| name.as_str().to_owned())
    }

    async fn with_token(&self, token: &[u8]) -> Result<B, Error> {
        let refused = || Error::from(StateError::InvalidAuthToken);
        let token = text_of(token).ok_or_else(refused)?;
        if let Some((keys, _)) = self.anonymous.jwt() {
            return self.with_jwt(&keys, token).await;
        }
        let claims = self.claims(token).await.ok_or_else(refused)?;
        let ttl = self.anonymous.token_ttl();
        if !self.seen.uses(token, claims.issued, now(), ttl) {
            let used = self.used_elsewhere(token).await.ok_or_else(refused)?;
            if !self.seen.uses(token, used, now(), ttl) {
                return Err(refused());
            }
        }
        Ok(self.anonymous.acting_as(claims.caller()))
    }

    /// The user of a JWT token. As a command it names the entry since which its user exists, as one
    /// with the cluster's own token.
    async fn with_jwt(&self, keys: &JwtKeys, token: &str) -> Result<B, Error> {
        let claims = keys.verified(token, now());
        let JwtClaims { username, revision } = claims.ok_or(StateError::InvalidAuthToken)?;
        let backend = &self.anonymous;
        if backend.auth().user(&username).is_none() {
            // It may just have been added at another member.
            backend.read_index().await?;
        }
        let caller = backend.auth().caller_of(username, revision)?;
        Ok(backend.acting_as(caller))
    }

    /// When another member has seen a use of the token last.
    async fn used_elsewhere(&self, token: &str) -> Option<Duration> {
        let signature = signature(token)?;
        // Clients with old tokens do not occupy the other members.
        let _query = self.queries.try_acquire().ok()?;
        self.anonymous.token_used_elsewhere(signature).await
    }

    /// The claims of a token that the cluster has signed, once this member has applied what the
    /// member of the login had.
    async fn claims(&self, token: &str) -> Option<Claims> {
        let backend = &self.anonymous;
        // Before the look at the key.
        let here = backend.raft_status().applied;
        if let Some(claims) = Claims::verified(token, &backend.auth().secret) {
            // A fenced member applies nothing more, so that this wait would time out.
            if here < claims.applied && !backend.is_fenced() {
                let applied = backend.applied(claims.applied);
                tokio::time::timeout(CATCH_UP_MAX, applied).await.ok()?;
            }
            return Some(claims);
        }
        if Claims::unverified(token)?.applied <= here {
            return None;
        }
        // Auth may have been enabled again, with another key, which is not applied here yet.
        if backend.is_fenced() || !self.catch_up().await {
            return None;
        }
        Claims::verified(token, &backend.auth().secret)
    }
}

/// The token of a call that is not decoded yet.
fn token_of(headers: &HeaderMap) -> Option<&[u8]> {
    let token = headers
        .get("token")
        .or_else(|| headers.get("authorization"))?;
    Some(token.as_bytes())
}

/// The token itself.
fn text_of(token: &[u8]) -> Option<&str> {
    let token = std::str::from_utf8(token).ok()?;
    Some(token.strip_prefix("Bearer ").unwrap_or(token))
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}
