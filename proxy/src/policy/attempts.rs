//! The retry policy: the members that a request is tried on, and how long it is held for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};

use crate::context::Context;
use crate::policy::endpoint::{Endpoint, Health};

/// Between two looks for a usable member, if no notification comes first.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// After this many attempts each further one is delayed by `PAUSE`.
const IMMEDIATE_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// The attempts of one request.
pub(crate) struct Attempts<'a> {
    context: &'a Context,
    /// The nearest member will do; otherwise the leader is preferred.
    nearest: bool,
    /// When the request came; `None` for a watch that resumes.
    since: Option<Instant>,
    count: u32,
    /// The member to try before all others.
    first: Option<Arc<Endpoint>>,
}

impl<'a> Attempts<'a> {
    /// The request is held no longer than the request timeout, and not at all while that is
    /// hopeless.
    pub(crate) fn of_request(context: &'a Context, nearest: bool) -> Attempts<'a> {
        Attempts {
            context,
            nearest,
            since: Some(Instant::now()),
            count: 0,
            first: None,
        }
    }

    /// A watch is held until a member is usable: it loses nothing by waiting.
    pub(crate) fn of_watch(context: &'a Context) -> Attempts<'a> {
        Attempts {
            context,
            nearest: true,
            since: None,
            count: 0,
            first: None,
        }
    }

    /// A stream that was begun before is held no longer than the request timeout, from the
    /// beginning of the outage.
    pub(crate) fn of_stream(context: &'a Context, nearest: bool, since: Instant) -> Attempts<'a> {
        Attempts {
            since: Some(since),
            ..Attempts::of_request(context, nearest)
        }
    }

    pub(crate) fn context(&self) -> &'a Context {
        self.context
    }

    /// Sends the request to the leader, if it is known.
    pub(crate) fn prefer_leader(&mut self) {
        self.nearest = false;
    }

    /// Tries this member before all others.
    pub(crate) fn try_first(&mut self, endpoint: Arc<Endpoint>) {
        self.first = Some(endpoint);
    }

    /// The member to try next; `None` when the time is over.
    pub(crate) async fn next(&mut self) -> Option<Arc<Endpoint>> {
        if let Some(first) = self.first.take() {
            self.count += 1;
            return Some(first);
        }
        if self.count < IMMEDIATE_MAX
            && !(0 < self.count && self.is_over())
            && let Some(endpoint) = self.context.endpoints.choose(self.nearest)
        {
            self.count += 1;
            return Some(endpoint);
        }
        // Boxed: otherwise it would enlarge the future of every request.
        Box::pin(self.held()).await
    }

    /// The same when no member is usable, or attempts keep failing.
    async fn held(&mut self) -> Option<Arc<Endpoint>> {
        if IMMEDIATE_MAX <= self.count {
            time::sleep(PAUSE).await;
        }
        loop {
            if 0 < self.count && self.is_over() {
                return None;
            }
            if let Some(endpoint) = self.context.endpoints.choose(self.nearest) {
                self.count += 1;
                return Some(endpoint);
            }
            if self.is_over() || self.is_hopeless() {
                return None;
            }
            self.context
                .endpoints
                .endpoint_available(POLL_INTERVAL)
                .await;
        }
    }

    fn is_over(&self) -> bool {
        let held_for = self.context.config.request_timeout;
        self.since.is_some_and(|since| held_for <= since.elapsed())
    }

    /// Where no member was ever reached the answer is 503 at once, as etcd's proxy with zero
    /// endpoints has it.
    fn is_hopeless(&self) -> bool {
        self.since.is_some() && self.context.endpoints.is_hopeless()
    }

    /// The member did not take the request, or left it unanswered.
    pub(crate) fn failed(&self, endpoint: &Endpoint) {
        self.context.endpoints.set_health(endpoint, Health::Down);
    }
}
