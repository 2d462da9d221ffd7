//! Limits of rate: requests a second of one connection, and of one user, on the client port.
//!
//! A request over a limit is refused at once: a queue would hold memory, hide the limit from the
//! client, and end as a timeout, after which a change may or may not be made. A message on
//! a stream that is open waits instead, for a bounded time: clients take most errors of a stream
//! for the loss of their watch or lease.
//!
//! The connection is charged first, where the port gives a request to its service, of any API. The
//! user is charged once it is proven: a mere name would let others use up its rate.
//! Neither needs the request's body. `Limiter` has no clock; `Rates` is around it.

mod bucket;
mod buckets;
mod limiter;
mod meter;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

pub use self::bucket::RateLimit;
pub(crate) use self::limiter::{By, VerifiedUser};
use self::limiter::{Limiter, Over, RequestOrigin};
pub(crate) use self::meter::Meter;
use crate::account::client;
use crate::calls::{CallMetrics, RateCounts};
use crate::gate::is_probe;
use crate::turns::Account;
use crate::{Error, go};

/// The gRPC service of health checks.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// The limits of a client port; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one connection.
    pub connection: Option<RateLimit>,
    /// Of one authenticated user.
    pub user: Option<RateLimit>,
}

/// The limits with what was used of them. Clones share it; the default has no limits.
#[derive(Clone, Default)]
pub struct Rates(Option<Arc<Limited>>);

struct Limited {
    limits: RateLimits,
    began: Instant,
    limiter: Mutex<Limiter>,
    calls: CallMetrics,
}

impl Rates {
    /// Counts refusals for `/metrics` in `calls`.
    pub fn new(limits: RateLimits, calls: CallMetrics) -> Rates {
        let limited = || Limited {
            limits,
            began: Instant::now(),
            limiter: Mutex::new(Limiter::new(limits)),
            calls,
        };
        Rates((limits != RateLimits::default()).then(|| Arc::new(limited())))
    }

    /// Whether users are limited.
    pub(crate) fn limits_users(&self) -> bool {
        let limited = self.0.as_deref();
        limited.is_some_and(|limited| limited.limits.user.is_some())
    }

    /// Charges the connection with a request for the path.
    pub(crate) fn charge_connection(&self, path: &str) -> Result<(), OverLimit> {
        match (&self.0, client()) {
            (Some(limited), Some(client)) if !is_exempt(path) => limited.charge(&client.into()),
            _ => Ok(()),
        }
    }

    /// Charges the user with a request.
    pub(crate) fn charge(&self, user: VerifiedUser) -> Result<(), OverLimit> {
        match &self.0 {
            Some(limited) => limited.charge(&user.into()),
            None => Ok(()),
        }
    }

    /// What charges the messages of a stream, which has been charged with its call; `None` without
    /// limits.
    pub(crate) fn meter(&self, account: impl FnOnce() -> Account) -> Option<Box<Meter>> {
        self.0.as_ref()?;
        let user = match self.limits_users().then(account) {
            Some(Account::User(name)) => Some(VerifiedUser::V3(name)),
            _ => None,
        };
        let connection = client();
        Some(Box::new(Meter::new(
            self.clone(),
            RequestOrigin { connection, user },
        )))
    }

    /// Charges messages of a stream: how long they wait.
    fn charge_messages(&self, of: &RequestOrigin, messages: u64) -> Result<Duration, OverLimit> {
        match &self.0 {
            Some(limited) => limited.charge_messages(of, messages),
            None => Ok(Duration::ZERO),
        }
    }
}

impl Limited {
    fn charge(&self, of: &RequestOrigin) -> Result<(), OverLimit> {
        let now = self.began.elapsed();
        let charged = self.limiter.lock().charge(of, now);
        charged.map_err(|over| self.refused(over))
    }

    fn charge_messages(&self, of: &RequestOrigin, messages: u64) -> Result<Duration, OverLimit> {
        let now = self.began.elapsed();
        let charged = self.limiter.lock().reserve(of, now, messages);
        if let Ok(Some(over)) = &charged {
            self.counts().delay(over.by);
        }
        let waits = |over: Option<Over>| over.map_or(Duration::ZERO, |over| over.wait);
        charged.map(waits).map_err(|over| self.refused(over))
    }

    fn refused(&self, over: Over) -> OverLimit {
        self.counts().refuse(over.by);
        OverLimit { wait: over.wait }
    }

    fn counts(&self) -> &RateCounts {
        self.calls.rates()
    }
}

impl From<SocketAddr> for RequestOrigin {
    fn from(client: SocketAddr) -> RequestOrigin {
        RequestOrigin {
            connection: Some(client),
            user: None,
        }
    }
}

impl From<VerifiedUser> for RequestOrigin {
    fn from(user: VerifiedUser) -> RequestOrigin {
        RequestOrigin {
            connection: None,
            user: Some(user),
        }
    }
}

/// Whether requests for a path are never limited: those about the member's health, by which it is
/// judged and restarted.
fn is_exempt(path: &str) -> bool {
    is_probe(path) || path.starts_with(HEALTH)
}

/// A request that is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverLimit {
    /// The time after which it may come again.
    wait: Duration,
}

impl OverLimit {
    /// The error of a call. Its code is that of etcd's table (`rpctypes`), for which clients wait
    /// and do not look for another member.
    pub(crate) fn status(self) -> Status {
        Status::resource_exhausted(text())
    }

    /// The error of a stream that has begun. Clients begin a watch or the renewals of a lease
    /// again for this code alone (etcd#21671).
    fn stream_status(self) -> Status {
        Status::unavailable(text())
    }

    /// An answer over HTTP, of the form that its API has, with status 429 (RFC 6585).
    pub(crate) fn answer(self, mut answer: Response) -> Response {
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let seconds = self.wait.as_nanos().div_ceil(1_000_000_000).max(1);
        let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
        answer.headers_mut().insert(RETRY_AFTER, seconds);
        answer
    }

    /// The answer for a path that belongs to no API.
    pub(crate) fn page(self) -> Response {
        self.answer(go::plain(StatusCode::TOO_MANY_REQUESTS, &text()))
    }
}

/// etcd's text.
pub(crate) fn text() -> String {
    Error::TooManyRequests.to_string()
}
