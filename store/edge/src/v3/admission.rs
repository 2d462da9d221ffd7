//! Which calls take turns, and those that wait for theirs before they are begun.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service as Serve;

use super::supervised::Supervision;
use super::{Answering, RequestBody, Service, Services};
use crate::Error;
use crate::backend::Backend;
use crate::turns::{Entry, TurnLimits, WaitingTurn};

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
            Service::Lock | Service::Election | Service::Maintenance | Service::Health => false,
        }
    }
}

impl<B: Backend> Services<B> {
    /// Begins a call of one message, or has it wait for its turn.
    ///
    /// # Errors
    /// `TooManyRequests`.
    pub(super) fn serve_admitted<R: RequestBody + Unpin>(
        &self,
        service: Service,
        request: Request<R>,
        supervision: &mut Supervision,
    ) -> Result<Answering, Error> {
        if service.takes_turns() {
            match self.turns.enter(self.sessions.account(request.headers())) {
                Entry::Begun(turn) => supervision.holds(turn),
                Entry::Waits(turn) => {
                    return Ok(self.serve_in_turn(service, self.counted(request), turn));
                }
                Entry::Refused => return Err(Error::TooManyRequests),
            }
        }
        Ok(self.serve(service, self.counted(request)))
    }

    /// Begins a call at its turn. Its message is not read before.
    fn serve_in_turn<R: RequestBody>(
        &self,
        service: Service,
        request: Request<R>,
        turn: WaitingTurn,
    ) -> Answering {
        match service {
            Service::Kv => in_turn(turn, self.kv.clone(), request),
            Service::Lease => in_turn(turn, self.lease.clone(), request),
            Service::Auth => in_turn(turn, self.auth.clone(), request),
            Service::Cluster => in_turn(turn, self.cluster.clone(), request),
            Service::Lock => in_turn(turn, self.lock.clone(), request),
            Service::Election => in_turn(turn, self.election.clone(), request),
            Service::Maintenance => in_turn(turn, self.maintenance.clone(), request),
            Service::Health => in_turn(turn, self.health.clone(), request),
        }
    }
}

fn in_turn<S, R>(turn: WaitingTurn, mut service: S, request: Request<R>) -> Answering
where
    R: Send + 'static,
    S: Serve<Request<R>, Response = Response<Body>, Error = Infallible, Future = Answering>
        + Send
        + 'static,
{
    Box::pin(async move {
        match turn.turn().await {
            Ok(_turn) => service.call(request).await,
            Err(refused) => Ok(Status::from(refused).into_http()),
        }
    })
}
