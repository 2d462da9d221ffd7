//! `etcdserverpb.Lease`.

use std::pin::Pin;

use futures_util::future::{self, Either};
use futures_util::stream::{self, StreamExt};
use keelson_port::Drain;
use keelson_proto::etcdserverpb::lease_server;
use keelson_proto::etcdserverpb::*;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Sessions;
use super::in_go;
use super::unread::Unread;
use crate::Error;
use crate::backend::Backend;
use crate::traces::{self, CallSpan};

/// The method whose call has many requests.
pub(super) const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// The largest message of a request, in bytes. Each has two numbers at most, and a connection may
/// begin thousands of renewals and not end them.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024;

/// The most renewals of one call that may wait. Further requests are read when one is answered.
const WAITING_MAX: usize = 128;

/// The gRPC service.
pub(super) struct Lease<B> {
    sessions: Sessions<B>,
    unread: Unread,
    drain: Drain,
}

impl<B> Lease<B> {
    pub(super) fn new(sessions: Sessions<B>, unread: Unread, drain: Drain) -> Lease<B> {
        Lease {
            sessions,
            unread,
            drain,
        }
    }
}

/// The answers of a call.
type Renewals = Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl<B: Backend> lease_server::Lease for Lease<B> {
    type LeaseKeepAliveStream = Renewals;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let mut span = traces::begun(&request);
        let answer = backend.lease_grant(request.into_inner()).await?;
        if let Some(span) = &mut span {
            // The member has chosen it if the client did not.
            span.set("id", answer.id);
        }
        Ok(Response::new(answer))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let _span = traces::begun(&request);
        let answer = backend.lease_revoke(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Renewals>, Status> {
        let backend = self.sessions.of(&request).await?;
        let call = request.extensions().get::<CallSpan>().cloned();
        let renewals = request.into_inner().map(move |request| {
            let (backend, call) = (backend.clone(), call.clone());
            async move { renew(&backend, request, call.as_ref()).await }
        });
        // One answer for each request, in their order.
        let answers = Box::pin(renewals.buffered(WAITING_MAX));
        let drained = Box::pin(self.drain.clone().begun());
        let begin = Some((answers, drained));
        let until_the_first_error = stream::unfold(begin, |state| async {
            let (mut answers, drained) = state?;
            match future::select(answers.next(), drained).await {
                Either::Left((Some(Ok(answer)), drained)) => {
                    Some((Ok(answer), Some((answers, drained))))
                }
                Either::Left((Some(Err(status)), _)) => Some((Err(status), None)),
                Either::Left((None, _)) => None,
                Either::Right(_) => Some((Err(Status::from(Error::Stopped)), None)),
            }
        });
        Ok(Response::new(Box::pin(until_the_first_error)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let answer = backend.lease_time_to_live(request.into_inner()).await?;
        self.unread.read(answer)
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        self.unread.read(backend.leases()?)
    }
}

async fn renew<B: Backend>(
    backend: &B,
    request: Result<LeaseKeepAliveRequest, Status>,
    call: Option<&CallSpan>,
) -> Result<LeaseKeepAliveResponse, Status> {
    let request = request.map_err(|status| in_go(&status).unwrap_or(status))?;
    let _span = call.map(|call| call.of(&request));
    match backend.lease_keep_alive(request.id).await {
        // Clients give a lease up for other codes (etcd#21671).
        Err(error @ Error::TooManyRequests) => Err(Status::unavailable(error.to_string())),
        answer => Ok(answer?),
    }
}
