//! Which calls are refused, which take turns, and those that wait for theirs before they are begun.

use std::convert::Infallible;

use http::{Extensions, HeaderMap, Request, Response};
use keelson_core::MemberId;
use tonic::Status;
use tonic::body::Body;
use tower::Service as Serve;

use super::supervised::Supervision;
use super::{Answering, RequestBody, Service, Services};
use crate::Error;
use crate::backend::Backend;
use crate::calls::{CountedRequest, Method};
use crate::rates::{OverLimit, Rates, VerifiedUser};
use crate::turns::{Account, Entry, TurnLimits, WaitingTurn};

/// The calls of one account in work are half of what one HTTP/2 connection may have, so that an
/// account waits for itself before the connection does.
pub(super) const LIMITS: TurnLimits = TurnLimits {
    in_work: 16_384,
    of_one: 2_048,
    waiting: 32_768,
};

impl Service {
    /// Whether its calls take turns. Those of the others wait for an event, or are for operators,
    /// whose view of an overloaded member matters most.
    pub(super) fn takes_turns(self) -> bool {
        match self {
            Service::Kv | Service::Lease | Service::Auth | Service::Cluster => true,
            Service::Lock | Service::Election => false,
            Service::Maintenance | Service::Usage | Service::Health => false,
        }
    }
}

impl<B: Backend> Services<B> {
    /// The same with limits of rate.
    pub(crate) fn limited(self, rates: Rates) -> Services<B> {
        Services { rates, ..self }
    }

    /// The same with another admission.
    #[cfg(test)]
    pub(crate) fn with_turns(mut self, limits: TurnLimits) -> Services<B> {
        self.turns = crate::turns::Turns::new(limits);
        self
    }

    /// Begins a call of one message, or has it wait for its turn.
    ///
    /// # Errors
    /// `TooManyRequests`.
    pub(super) fn serve_admitted<R: RequestBody + Unpin>(
        &self,
        service: Service,
        request: Request<R>,
        supervision: &mut Supervision,
    ) -> Result<Answering, Status> {
        if service.takes_turns() {
            match self.turns.enter(
                self.sessions
                    .account(request.headers(), request.extensions()),
            ) {
                Entry::Begun(turn) => supervision.holds(turn),
                Entry::Waits(turn) => {
                    let counted = self.counted(supervision.method(), request);
                    return Ok(self.serve(service, counted, Some(turn)));
                }
                Entry::Refused => return Err(Error::TooManyRequests.into()),
            }
        }
        let counted = self.counted(supervision.method(), request);
        Ok(self.serve(service, counted, None))
    }

    /// The request with its messages counted.
    pub(super) fn counted<R>(
        &self,
        method: Option<Method>,
        request: Request<R>,
    ) -> Request<CountedRequest<R>> {
        let (parts, body) = request.into_parts();
        let body = self.calls.count_requests(method, body, None);
        Request::from_parts(parts, body)
    }

    /// The same of a stream, each of whose messages is a request of its user and connection.
    pub(super) fn metered<R>(
        &self,
        method: Option<Method>,
        request: Request<R>,
    ) -> Request<CountedRequest<R>> {
        let (parts, body) = request.into_parts();
        let account = || self.sessions.account(&parts.headers, &parts.extensions);
        let meter = self.rates.meter(account);
        let body = self.calls.count_requests(method, body, meter);
        Request::from_parts(parts, body)
    }

    /// Charges the user of a call that has these headers. One without a user is free.
    ///
    /// # Errors
    /// The user has made too many calls.
    pub(super) fn charge_user(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<(), OverLimit> {
        if !self.rates.limits_users() {
            return Ok(());
        }
        match self.sessions.account(headers, extensions) {
            Account::User(name) => self.rates.charge(VerifiedUser::V3(name)),
            Account::Connection(_) => Ok(()),
        }
    }
}

/// Begins a call, at its turn if it waits for one: its message is not read before.
pub(super) fn begin<S, R>(
    mut service: S,
    request: Request<R>,
    turn: Option<WaitingTurn>,
) -> Answering
where
    R: Send + 'static,
    S: Serve<Request<R>, Response = Response<Body>, Error = Infallible, Future = Answering>
        + Send
        + 'static,
{
    let Some(turn) = turn else {
        return service.call(request);
    };
    Box::pin(async move {
        match turn.turn().await {
            Ok(_turn) => service.call(request).await,
            Err(refused) => Ok(Status::from(refused).into_http()),
        }
    })
}

/// The checks for every request: etcd v3.7.1 `api/v3rpc/interceptor.go`.
pub(super) fn admit<B: Backend>(
    backend: &B,
    method: &str,
    requires_leader: bool,
) -> Result<(), Error> {
    if !answered_by_learner(method) && backend.is_learner() {
        return Err(Error::NotSupportedForLearner);
    }
    if requires_leader && backend.leader() == MemberId::NONE {
        return Err(Error::NoLeader);
    }
    Ok(())
}

/// Whether a learner serves the method. A learner's `Range` must also be serializable, which is
/// checked after it is decoded.
fn answered_by_learner(method: &str) -> bool {
    matches!(
        method,
        "/etcdserverpb.KV/Range"
            | "/etcdserverpb.Maintenance/Status"
            | "/etcdserverpb.Maintenance/Snapshot"
            | "/keelsonpb.Usage/Get"
    )
}
