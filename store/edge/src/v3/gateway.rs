//! The services as the JSON gateway calls them: by the rules for calls over gRPC.

use std::convert::Infallible;

use http::{Extensions, HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;

use super::deadline;
use super::supervised::Supervised;
use super::unread::hold_each;
use super::{Service, Services, Unread, WATCH, lease};
use super::{admit, message_bytes_max, requires_leader, reword};
use crate::backend::Backend;
use crate::calls::Method;
use crate::gateway::{Calls, JsonRoom};
use crate::rates::OverLimit;

impl<B: Backend> Calls for Services<B> {
    async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let supervision = self.supervision(&mut request);
        let method = supervision.method();
        let called = Box::pin(async { Ok(self.dispatch(method, request).await) });
        let answered = Supervised::new(called, supervision).await;
        let answered = answered.unwrap_or_else(|never: Infallible| match never {});
        answered.map(Body::new)
    }

    fn message_bytes_max(&self, method: &str) -> usize {
        match method.starts_with("/etcdserverpb.Lease/") {
            true => lease::MESSAGE_BYTES_MAX,
            false => message_bytes_max(&self.backend),
        }
    }

    fn has_certificate_users(&self) -> bool {
        self.backend.has_certificate_users() && self.backend.auth_enabled()
    }

    fn charge(&self, metadata: impl FnOnce() -> HeaderMap) -> Result<(), OverLimit> {
        match self.rates.limits_users() {
            // The gateway passes on no name of a certificate.
            true => self.charge_user(&metadata(), &Extensions::default()),
            false => Ok(()),
        }
    }

    fn unread(&self) -> &Unread {
        &self.unread
    }

    fn json_room(&self) -> &JsonRoom {
        &self.json_room
    }
}

impl<B: Backend> Services<B> {
    async fn dispatch(&self, method: Option<Method>, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if let Err(error) = admit(&self.backend, path, requires_leader(&request)) {
            return Status::from(error).into_http();
        }
        if path == WATCH {
            let watching = self.watch(self.metered(method, request)).await;
            return watching.unwrap_or_else(|never| match never {});
        }
        let keeps_alive = path == lease::KEEP_ALIVE;
        let service = path.get(1..).and_then(|rest| rest.split('/').next());
        let Some(own) = service.and_then(Service::named) else {
            return Status::unimplemented("unknown service").into_http();
        };
        let deadline = deadline::of(&request);
        if deadline::has_passed(deadline) {
            return deadline::exceeded().into_http();
        }
        let answering = async {
            if keeps_alive {
                return self.serve(own, self.metered(method, request), None).await;
            }
            if !own.takes_turns() {
                return self.serve(own, self.counted(method, request), None).await;
            }
            let account = self
                .sessions
                .account(request.headers(), request.extensions());
            match self.turns.turn(account).await {
                Ok(_turn) => self.serve(own, self.counted(method, request), None).await,
                Err(refused) => Ok(Status::from(refused).into_http()),
            }
        };
        match deadline::before(deadline, answering).await {
            Ok(Ok(response)) => hold_each(reword(response)),
            Err(late) => late.into_http(),
        }
    }
}
