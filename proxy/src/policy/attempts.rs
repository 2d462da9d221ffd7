//! Whose turn it is: the members a request is tried on, and how long it is held for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};

use crate::context::Context;
use crate::policy::endpoint::{Endpoint, Health};

/// Between two looks for a member, when nobody says that there is one.
const LOOK: Duration = Duration::from_millis(100);

/// After so many attempts something is wrong that haste does not mend.
const HASTY_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// One request's way through the members.
pub(crate) struct Attempts<'a> {
    context: &'a Context,
    /// The nearest member will do.
    nearest: bool,
    /// When a request came; `None` for a watch that goes on.
    since: Option<Instant>,
    taken: u32,
    /// The member to try before all others.
    first: Option<Arc<Endpoint>>,
}

impl<'a> Attempts<'a> {
    /// Held no longer than the request timeout, and not at all while that is hopeless. What does not
    /// go to the nearest member goes to the leader.
    pub(crate) fn of_request(context: &'a Context, nearest: bool) -> Attempts<'a> {
        Attempts {
            context,
            nearest,
            since: Some(Instant::now()),
            taken: 0,
            first: None,
        }
    }

    /// Held until a member comes back: for a watch nothing is lost by waiting.
    pub(crate) fn of_watch(context: &'a Context) -> Attempts<'a> {
        Attempts {
            context,
            nearest: true,
            since: None,
            taken: 0,
            first: None,
        }
    }

    /// The leader is to be asked, if it is known.
    pub(crate) fn prefer_leader(&mut self) {
        self.nearest = false;
    }

    /// This member is to be tried before all others.
    pub(crate) fn try_first(&mut self, endpoint: Arc<Endpoint>) {
        self.first = Some(endpoint);
    }

    /// The member to try next; `None` when the time is over.
    pub(crate) async fn next(&mut self) -> Option<Arc<Endpoint>> {
        if let Some(first) = self.first.take() {
            self.taken += 1;
            return Some(first);
        }
        if self.taken < HASTY_MAX
            && !(0 < self.taken && self.is_over())
            && let Some(endpoint) = self.context.endpoints.choose(self.nearest)
        {
            self.taken += 1;
            return Some(endpoint);
        }
        // In a box: it would make room for itself in every request.
        Box::pin(self.held()).await
    }

    /// The same, when there is none, or something is wrong.
    async fn held(&mut self) -> Option<Arc<Endpoint>> {
        if HASTY_MAX <= self.taken {
            time::sleep(PAUSE).await;
        }
        loop {
            if 0 < self.taken && self.is_over() {
                return None;
            }
            if let Some(endpoint) = self.context.endpoints.choose(self.nearest) {
                self.taken += 1;
                return Some(endpoint);
            }
            if self.is_over() || self.is_hopeless() {
                return None;
            }
            self.context.endpoints.endpoint_available(LOOK).await;
        }
    }

    fn is_over(&self) -> bool {
        let held_for = self.context.config.request_timeout;
        self.since.is_some_and(|since| held_for <= since.elapsed())
    }

    /// As etcd's proxy with zero endpoints: 503 at once, where no member was ever reached.
    fn is_hopeless(&self) -> bool {
        self.since.is_some() && self.context.endpoints.is_hopeless()
    }

    /// The member did not take the request, or left it unanswered.
    pub(crate) fn failed(&self, endpoint: &Endpoint) {
        self.context.endpoints.set_health(endpoint, Health::Down);
    }
}
